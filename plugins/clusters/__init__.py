"""Built-in clusters for `aip launch --cluster NAME`, named by entry points of the group `aip.clusters`."""

from __future__ import annotations

import os
from importlib.util import find_spec

from aipcore.distributed.launcher import Hosts
from aipcore.errors import UsageError


def ray(options: str) -> Hosts:
    """Return the nodes of a Ray cluster.

    Args:
        options: the resources of each worker, such as `CPU=8,GPU=1`.

    Raises:
        UsageError: Ray is not installed, the options are wrong, or no cluster runs.
    """
    if find_spec("ray") is None:
        raise UsageError("--cluster ray needs the package ray, which is not installed. Run pip install 'aipcore[ray]'.")
    # Ray prints pages of its own about a lost node. It reads this variable when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    from aip_plugins.clusters.ray_nodes import RayNodes

    return RayNodes(options)
