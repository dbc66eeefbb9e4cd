"""What the workers of a run must have in common before they compute anything."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from aipcore.devices.workers import Workers
from aipcore.errors import ParamsError


def alone(strategy: str) -> Workers:
    """This process without any others.

    Raises:
        ParamsError: there must be others.
    """
    if strategy == "multi_worker":
        raise ParamsError(
            "--device.strategy multi_worker needs the other workers: train with aip train, or give the trainer those "
            "of aipcore.devices.joining.joined_workers."
        )
    return Workers()


def agreed_seed(workers: Workers, given: int | None) -> int:
    """The seed of a run: the one given, or one that the chief draws for all."""
    seed: int = workers.broadcast("seed", secrets.randbelow(2**31) if given is None else given)
    return seed


def require_same_run(workers: Workers, about: Mapping[str, Any], samples: int) -> None:
    """Checks that all workers have the same parameters and as many samples.

    Args:
        workers: those of the run.
        about: what is recorded of the run; the resolved parameters are its `params`.
        samples: training samples of an epoch.

    Raises:
        ParamsError: they differ, and in what.
    """
    params = _flat(about.get("params", {}))
    params.pop("trainer.output_dir", None)  # The chief alone writes.
    versions = _flat({"version": about.get("versions", {})})
    workers.require_same({"the number of training samples": samples, **params, **versions})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
