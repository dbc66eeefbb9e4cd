"""Steps of a run: the optimizer updates at which values are logged, validation runs, and training ends."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from aipcore.errors import ParamsError
from aipcore.training.engine.learning_rate import Horizon
from aipcore.training.params import TrainerParams


@attrs.frozen(kw_only=True)
class Steps:
    """The updates of an epoch, and the updates of a run at which something is due.

    A step is an optimizer update, counted over the whole run. With float16, a skipped update counts too, so that the
    count follows from the position in the data.

    Attributes:
        batches: batches in an epoch.
        accumulate_steps: batches per update; the last update of an epoch may have fewer.
        epochs: the most epochs, or None.
        max_steps: the last update, or None.
        log: updates between logged values, or None.
        validate: updates between validations, or None.
    """

    batches: int
    accumulate_steps: int
    epochs: int | None = None
    max_steps: int | None = None
    log: int | None = None
    validate: int | None = None

    @property
    def per_epoch(self) -> int:
        """The number of updates in an epoch."""
        return -(-self.batches // self.accumulate_steps)

    @property
    def horizon(self) -> Horizon:
        """The length of the run."""
        return Horizon(updates_per_epoch=self.per_epoch, epochs=self.last_epoch(0), max_updates=self.max_steps)

    def completed(self, batch: int) -> int:
        """Return the number of updates completed in an epoch after `batch` of its batches."""
        return self.per_epoch if batch >= self.batches else batch // self.accumulate_steps

    def batch_of(self, update: int) -> int:
        """Return the number of batches of an epoch after which its `update`-th update is completed."""
        return min(update * self.accumulate_steps, self.batches)

    def last_epoch(self, before: int) -> int:
        """Return the number of epochs in which the run trains, including an incomplete one.

        Args:
            before: the updates of the run, minus those of complete epochs of this length. Not 0 if the number of
                updates in an epoch has changed since the run began.
        """
        if self.max_steps is None:
            assert self.epochs is not None
            return self.epochs
        needed = -(-(self.max_steps - before) // self.per_epoch)
        return max(1, needed if self.epochs is None else min(needed, self.epochs))

    def end(self, first: int) -> int:
        """Return the number of batches to train in an epoch, given the updates completed before it."""
        if self.max_steps is None:
            return self.batches
        return self.batch_of(max(0, min(self.max_steps - first, self.per_epoch)))

    def due(self, every: int | None, first: int, last: int) -> range:
        """Return the multiples of `every` after the update `first`, up to `last`; none if `every` is None."""
        return range(0) if every is None else range((first // every + 1) * every, last + 1, every)

    def ends(self, first: int, *, log: bool) -> Iterator[int]:
        """Yield the batches of an epoch after which a call of the compiled loop must end.

        Args:
            first: the updates completed before the epoch.
            log: True if values can only be read between two calls.
        """
        yield self.end(first)
        for every in (self.validate, self.log if log else None):
            yield from (self.batch_of(update - first) for update in self.due(every, first, first + self.per_epoch))


def make_steps(params: TrainerParams, batches: int, *, validates: bool) -> Steps:
    """Return the steps of a run.

    Args:
        params: the training parameters.
        batches: batches in an epoch.
        validates: True if there is validation data.

    Raises:
        ParamsError: the run would not end, or there is nothing to validate.
    """
    if params.epochs is None and params.max_steps is None:
        raise ParamsError("--trainer.epochs none needs a number of updates. Give --trainer.max_steps.")
    if params.val_every_steps is not None and not validates:
        raise ParamsError(
            f"--trainer.val_every_steps {params.val_every_steps} needs validation data, but the scenario has none. "
            "Define val_data(), or leave the option out."
        )
    return Steps(
        batches=batches,
        accumulate_steps=params.accumulate_steps,
        epochs=params.epochs,
        max_steps=params.max_steps,
        log=params.log_every_steps,
        validate=params.val_every_steps,
    )
