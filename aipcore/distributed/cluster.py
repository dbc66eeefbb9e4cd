"""The workers of a distributed run, read from `TF_CONFIG` or from the variables of a Slurm job step.

Imports no TensorFlow, so that mistakes in the environment are found early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from aipcore.errors import UsageError

EXAMPLE = '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}'
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
"""Variables that `srun` sets for each task, as far as they are needed."""

SECRET = "AIP_CLUSTER_SECRET"
"""The environment variable with the secret that all workers of a run share."""

LAUNCHER = "AIP_LAUNCHER"
"""The environment variable with the command that started the workers, such as `aip launch --workers 2`."""

LEAST_CHARACTERS = 16
"""Minimum length of a secret: anyone who observes one connection can test guesses."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


@attrs.frozen
class Cluster:
    """The workers of a run. The first one is the chief.

    Attributes:
        addresses: `host:port` of each worker.
        index: the position of this process in `addresses`.
        secret: proof that a process belongs to the run; required for several workers.
    """

    addresses: tuple[str, ...]
    index: int
    secret: str = attrs.field(default="", repr=False)

    @property
    def tf_config(self) -> str:
        """The value of `TF_CONFIG` for this worker."""
        return json.dumps(
            {"cluster": {"worker": list(self.addresses)}, "task": {"type": "worker", "index": self.index}}
        )


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` into host and port, without the brackets of an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def read_cluster(environment: Mapping[str, str], slurm_port: int) -> Cluster:
    """Return the cluster described by the environment: by `TF_CONFIG` if set, otherwise by Slurm's variables.

    The secret is read from `AIP_CLUSTER_SECRET`, without surrounding whitespace.

    Args:
        environment: the environment variables of this process.
        slurm_port: the first port of the workers on a host; used with Slurm, which assigns none.

    Raises:
        UsageError: the environment describes no cluster, or an invalid one.
    """
    if "TF_CONFIG" in environment:
        cluster = _from_tf_config(environment["TF_CONFIG"])
    elif "SLURM_PROCID" in environment and "SLURM_STEP_NODELIST" in environment:
        cluster = _from_slurm(environment, slurm_port)
    else:
        raise _no_cluster()
    cluster = attrs.evolve(cluster, secret=environment.get(SECRET, "").strip())
    require_secret(cluster)
    return cluster


def require_secret(cluster: Cluster) -> None:
    """Check that several workers have a secret.

    Raises:
        UsageError: the secret is missing or too short.
    """
    if len(cluster.addresses) > 1 and len(cluster.secret) < LEAST_CHARACTERS:
        what = f"has fewer than {LEAST_CHARACTERS} characters" if cluster.secret else "is not set"
        raise UsageError(
            f"{SECRET} {what}. The workers of a run authenticate each other with a shared secret. Create one with "
            f"export {SECRET}=$(openssl rand -hex 32), and set the same value for all workers."
        )


def _no_cluster() -> UsageError:
    return UsageError(
        "--device.strategy multi_worker needs the addresses of its workers. Set TF_CONFIG for each worker, such as "
        f"{EXAMPLE}, or start the workers with srun. To try it on this machine, run aip launch --workers 2 train ... "
        "To resume a run with this process alone, add --device.strategy none."
    )


def _from_tf_config(text: str) -> Cluster:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _wrong(f"is not JSON ({error})") from error
    workers = _within(_within(config, "cluster"), "worker")
    if not isinstance(workers, list) or not workers:
        raise _wrong("has no list of addresses in cluster.worker")
    for number, address in enumerate(workers):
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match[2]) < 2**16:
            raise _wrong(f"has {address!r} as cluster.worker[{number}], which must be host:port")
    if len(set(workers)) < len(workers):
        raise _wrong("names an address twice in cluster.worker")
    others = sorted(set(config["cluster"]) - {"worker"})
    if others:
        raise _wrong(f"has tasks of type {', '.join(others)}, but all must be workers (the first one is the chief)")
    kind, index = (_within(_within(config, "task"), key) for key in ("type", "index"))
    if kind != "worker":
        raise _wrong(f"has the task.type {kind!r}, which must be 'worker'")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)  # TensorFlow accepts a string too.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(workers):
        raise _wrong(f"has the task.index {index!r}, which must be from 0 to {len(workers) - 1}")
    return Cluster(tuple(workers), index)


def _within(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _wrong(what: str) -> UsageError:
    return UsageError(f"TF_CONFIG {what}. Set it to a value such as {EXAMPLE}.")


def _from_slurm(environment: Mapping[str, str], port: int) -> Cluster:
    # TensorFlow's SlurmClusterResolver sorts hosts alphabetically. That puts node10 before node9 and assigns tasks the
    # wrong addresses. Slurm's own order is kept here.
    missing = [name for name in SLURM if not environment.get(name)]
    if missing:
        raise UsageError(f"This Slurm job step lacks {', '.join(missing)}. Start the workers with srun.")
    rank, tasks, nodes, per_node = (environment[name] for name in SLURM)
    try:
        hosts, counts = expand_hosts(nodes), expand_counts(per_node)
        places = [(node, task) for node, count in enumerate(counts) for task in range(count)]
        addresses = tuple(f"{hosts[node]}:{port + task}" for node, task in places)
        own = places[int(rank)]
    except (ValueError, IndexError):
        addresses, own = (), None
    if own is None or len(hosts) != len(counts) or len(addresses) != int(tasks):
        given = ", ".join(f"{name}={environment[name]}" for name in SLURM)
        raise UsageError(f"Slurm's variables are inconsistent ({given}). Start the workers with srun.")
    # Every job step has both variables. They give the actual placement of the task.
    real = (environment.get("SLURM_NODEID", str(own[0])), environment.get("SLURM_LOCALID", str(own[1])))
    if real != (str(own[0]), str(own[1])):
        raise UsageError("The workers are not numbered host by host. Start them with srun --distribution=block.")
    return Cluster(addresses, int(rank))


def expand_hosts(text: str) -> list[str]:
    """Expand a Slurm node list such as `gpu[01-03,7],login`, in its order.

    Raises:
        ValueError: the text is not a node list.
    """
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        fixed = re.split(r"\[([^\]]*)\]", part)
        names = [""]
        for position, piece in enumerate(fixed):
            ends = [piece] if position % 2 == 0 else [number for one in piece.split(",") for number in _numbers(one)]
            names = [name + end for name in names for end in ends]
        hosts += names
    return hosts


def _numbers(text: str) -> list[str]:
    first, dash, last = text.partition("-")
    if not dash:
        return [str(int(first)).zfill(len(first))]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def expand_counts(text: str) -> list[int]:
    """Expand Slurm's short form of the tasks per host: `3(x2),2` becomes 3, 3, 2.

    Raises:
        ValueError: the text is not such a list.
    """
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not a number of tasks")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts
