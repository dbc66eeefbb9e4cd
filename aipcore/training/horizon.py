"""How long a run is, in the unit that schedules count: optimizer updates."""

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
