"""The context of a run, as callback plugins see it."""

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
    """A writer for TensorBoard event files. It writes nothing if the run does not, or if the worker is not the chief.

    Files that cannot be written are handled as set by `checkpoint.on_error`. A resumed run drops the points of the
    epochs that it repeats, so that no point appears twice.
    """

    def __init__(self, run_writer: Callable[[], RunWriter | None]) -> None:
        self._run_writer = run_writer

    def scalars(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve of a part: `train`, `validation`, or a part of the callback's own.

        Args:
            part: the name of a separate run in TensorBoard.
            epoch: counted from 1.
            values: values by name; a slash in a name makes a group.
        """
        if (run_writer := self._run_writer()) is not None:
            run_writer.log_scalars(part, epoch, values)

    def summaries(self, part: str, epoch: int, records: Iterable[Summary]) -> None:
        """Add images and histograms to a part.

        Args:
            part: see `scalars`.
            epoch: counted from 1.
            records: as returned by `Scenario.summaries`; images are uint8 of shape [height, width, channels], values
                finite float64.
        """
        if (run_writer := self._run_writer()) is not None:
            run_writer.log_summaries(epoch, records, part=part)


@attrs.frozen(kw_only=True, eq=False)
class RunContext:
    """The run as callbacks see it: the second argument of a callback's `build`.

    It exists before training begins, and its attributes never change. `callback.model` is the Keras model, as under
    `Model.fit`. In a test of a callback, construct a `RunContext` with the first five attributes.

    Attributes:
        output_dir: the run folder, a `pathlib.Path`. A callback writes only into it.
        scenario: the scenario's name.
        monitor: the better direction ("min" or "max"), and the monitored value's name in the epoch logs.
        horizon: the length of the run, a `Horizon`.
        learning_rate: the schedule, a `ScaledSchedule`. `context.learning_rate.scale.assign(0.1)` multiplies the rate
            from the next update on. Called with the index of an update, it returns the rate of this update.
        params: the resolved parameters as nested plain values, as in `params.json`; empty if the run records none.
            Secrets are shown as `***`.
        is_chief: True for the process that reports for the run; on the others `output_dir` is a temporary folder.
        updates: returns the number of completed optimizer updates, an int. Updates skipped with float16 do not count.
        events: writer for TensorBoard event files, a `RunEvents`.
        probe: runs the model on some of the data, a `RunProbe`. None in a `RunContext` that a test constructs.
    """

    output_dir: Path
    scenario: str
    monitor: tuple[Literal["min", "max"], str]
    horizon: Horizon
    learning_rate: Any
    params: Mapping[str, Any] = attrs.field(factory=dict)
    is_chief: bool = True
    # Defaults for tests of callbacks, which set only the fields that their callback needs.
    updates: Callable[[], int] = attrs.field(default=lambda: 0)
    events: RunEvents = attrs.field(factory=lambda: RunEvents(lambda: None))
    probe: RunProbe = attrs.field(default=None)

    def improved(self, value: float, best: float | None) -> bool:
        """Return True if `value` is better than `best` in the monitored direction. NaN is never better."""
        if value != value:  # noqa: PLR0124 - the one value that differs from itself is NaN
            return False
        if best is None:
            return True
        return value < best if self.monitor[0] == "min" else value > best
