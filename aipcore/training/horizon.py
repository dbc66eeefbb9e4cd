"""How long a run is, in the unit that schedules count: optimizer updates; and what is due in which epoch."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Horizon:
    """The length of a run.

    Attributes:
        updates_per_epoch: optimizer updates in one epoch, at least 1.
        epochs: epochs in the run, at least 1.
    """

    updates_per_epoch: int
    epochs: int

    @property
    def total_updates(self) -> int:
        """Optimizer updates in the whole run."""
        return self.updates_per_epoch * self.epochs


def is_due(epoch: int, every: int, last: bool, first: int = 1) -> bool:
    """Return whether to run in this epoch what runs every so many epochs, and in the first and the last one.

    Args:
        epoch: counted from 0.
        every: how many epochs from one time to the next; 0: never.
        last: whether this is the last epoch.
        first: the epoch, counted from 1, before which it never runs.
    """
    if not every or epoch + 1 < first:
        return False
    return last or epoch == 0 or (epoch + 1) % every == 0
