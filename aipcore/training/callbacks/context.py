"""What a callback plugin may know of the run it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from aipcore.scenario.summaries import Summary
from aipcore.training.engine.learning_rate import Horizon

if TYPE_CHECKING:
    from aipcore.training.callbacks.model_probe import RunProbe
    from aipcore.training.checkpoint.run_writer import RunWriter


class RunEvents:
    """Writes to the event files of TensorBoard; nothing if the run writes nothing, or on other workers than the chief.

    A file that cannot be written is dealt with as `checkpoint.on_error` says. A run that is resumed loses the points of
    the epochs that it runs again, so that none is there twice.
    """

    def __init__(self, run_writer: Callable[[], RunWriter | None]) -> None:
        self._run_writer = run_writer

    def scalars(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve of a part: `train`, `validation`, or one of a callback's own.

        Args:
            part: a run of its own in TensorBoard.
            epoch: counted from 1.
            values: by name; a slash in a name makes a group.
        """
        if (run_writer := self._run_writer()) is not None:
            run_writer.log_scalars(part, epoch, values)

    def summaries(self, part: str, epoch: int, records: Iterable[Summary]) -> None:
        """Adds images and histograms to a part.

        Args:
            part: see `scalars`.
            epoch: counted from 1.
            records: as of `Scenario.summaries`; images are uint8 of shape [height, width, channels], values finite
                float64.
        """
        if (run_writer := self._run_writer()) is not None:
            run_writer.log_summaries(epoch, records, part=part)


@attrs.frozen(kw_only=True, eq=False)
class RunContext:
    """The run as callbacks see it.

    Attributes:
        output_dir: the run's folder; a callback writes only into it.
        scenario: the scenario's name.
        monitor: whether less ("min") or more ("max") is better, and the monitored value's name in the epoch logs.
        horizon: optimizer updates per epoch, and epochs.
        learning_rate: the schedule; its `scale` variable multiplies the rate from the next update on.
        params: the resolved parameters as nested plain values, as in `params.json`; empty if the run records none.
        is_chief: whether this process speaks for the run; on the others `output_dir` is a folder that is removed.
        updates: how many optimizer updates are done; those that float16 leaves out do not count.
        events: writes to the event files of TensorBoard.
        probe: runs the model on some of the data.
    """

    output_dir: Path
    scenario: str
    monitor: tuple[Literal["min", "max"], str]
    horizon: Horizon
    learning_rate: Any
    params: Mapping[str, Any] = attrs.field(factory=dict)
    is_chief: bool = True
    # A test of a callback makes a context of what that callback needs.
    updates: Callable[[], int] = attrs.field(default=lambda: 0)
    events: RunEvents = attrs.field(factory=lambda: RunEvents(lambda: None))
    probe: RunProbe = attrs.field(default=None)

    def improved(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best` in the monitored direction; a NaN never is."""
        if value != value:  # noqa: PLR0124 - the one value that differs from itself is NaN
            return False
        if best is None:
            return True
        return value < best if self.monitor[0] == "min" else value > best
