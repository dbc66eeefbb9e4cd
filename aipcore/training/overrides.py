"""Which parameters may differ when a run goes on, and which cannot, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from aipcore.errors import UsageError

OTHER_MODEL = "the weights in the checkpoint are those of the model as it was; start a new run with aip train"
OTHER_OPTIMIZER = "the checkpoint holds the state of that optimizer, none for another; start a new run with aip train"
OTHER_NUMBERS = "the run would not go on but be another from here; start a new run with aip train"

REFUSED: Mapping[str, str] = {
    "model": OTHER_MODEL,
    "warmstart": "the weights come from the checkpoint; leave it out",
    "trainer.warmstart": "the weights come from the checkpoint; leave it out",
    "trainer.optimizer.name": OTHER_OPTIMIZER,
    "trainer.precision": OTHER_NUMBERS,
    "trainer.random_seed": "the order of the data and dropout depend on it; leave it out",
    "trainer.no_train_scope": "the optimizer has state for the weights that are trained, and no others; leave it out",
    "trainer.ema_batch_norm": "the checkpoint holds averages for the same weights only; leave it out",
    "trainer.output_dir": "a run goes on in the folder where it lies; copy the folder and resume the copy",
}
"""By dotted path, itself or a group, why it cannot change."""

RECOMPILE = ("trainer.tune", "trainer.jit_compile", "trainer.force_eager")
"""Parameters with which it is chosen anew how the loop is compiled."""


@attrs.frozen
class Change:
    """A parameter that differs from the saved one."""

    path: str
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs between two nested mappings of parameters, as `to_dict` makes them; lists are compared whole."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        Change(path, old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path) or (path in old) != (path in new)
    ]


def refuse_impossible(found: list[Change], as_shown: Callable[[str], str] = str) -> None:
    """Sees that every change can be made.

    Args:
        found: from `changes`.
        as_shown: from the dotted path to what users write.

    Raises:
        UsageError: one cannot, and why.
    """
    for change in found:
        for path, reason in REFUSED.items():
            if change.path == path or change.path.startswith(f"{path}."):
                raise _refusal(change, reason, as_shown)
        if change.path == "trainer.calc_ema" and 0 in (change.before, change.after):
            raise _refusal(change, "the checkpoint holds averages only if the run began with them", as_shown)


def _refusal(change: Change, reason: str, as_shown: Callable[[str], str]) -> UsageError:
    name = as_shown(change.path.removesuffix(".name"))
    return UsageError(
        f"--{name} cannot change from {_text(change.before)} to {_text(change.after)} when a run goes on: {reason}."
    )


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
