"""A Ray cluster of three node processes on this machine.

It prints its address. After each line of its input, it kills a node and prints a line. It ends with its input.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}


def main() -> None:
    """Run the cluster."""
    quick = {"prestart_worker_first_driver": False, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    cluster = Cluster(initialize_head=True, head_node_args={"_system_config": quick, **NODE})
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    print(f"ADDRESS {cluster.address}", flush=True)  # noqa: T201
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("KILLED", flush=True)  # noqa: T201
    cluster.shutdown()


main()
