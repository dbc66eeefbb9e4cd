"""A callback that shows a run in the HPARAMS tab of TensorBoard."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from typing import Any

import keras
from aip_plugins.callbacks.observe_params import HParamsParams
from aip_plugins.hparams import session_end, write_summaries
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from aipcore.params.dump import flat, recorded_text
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")

BEGIN, END = (f"events.out.tfevents.000000000{number}.hparams.v2" for number in (0, 1))
"""Two files, since a running TensorBoard does not read a replaced file again."""

ALWAYS_DIFFERENT = ("trainer.output_dir",)
"""Parameters without an influence on the result."""


class HParams(keras.callbacks.Callback):
    """A session of the tab. TensorBoard itself adds the last values of the curves.

    A resumed run replaces the files, so that the run is there once.
    """

    def __init__(self, params: HParamsParams, context: RunContext) -> None:
        super().__init__()
        self.context = context
        self._include = re.compile(params.include)
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the parameters. `on_train_begin` would be too early: nothing may be written before the checkpoint."""
        if self.context.is_chief and not self._begun:
            self._begun = True
            self._write(self._begin)

    def on_run_end(self, end: RunEnd) -> None:
        """Write the best value and the status."""
        if self._begun:
            best = [] if end.best is None else [(end.best_epoch or 0, scalar_pb(self._best, end.best))]
            self._write(lambda: write_summaries(self._file(END), [*best, (0, session_end(end.status))]))

    @property
    def _best(self) -> str:
        return f"best/{self.context.monitor[1]}"

    def _file(self, name: str) -> Any:
        return self.context.output_dir / "tensorboard" / name

    def _begin(self) -> None:
        params = {name: _plain(value) for name, value in flat(self.context.params, lists=True).items()}
        shown = {k: v for k, v in params.items() if self._include.search(k) and k not in ALWAYS_DIFFERENT}
        name = self.context.output_dir.absolute().name
        # Never the run folder itself: it may have been moved.
        self._file("").mkdir(exist_ok=True)
        self._file(END).unlink(missing_ok=True)
        write_summaries(self._file(BEGIN), [(0, hparams_pb(shown, trial_id=name, start_time_secs=time.time()))])

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            logger.warning("The HPARAMS tab cannot be written (%s). Training continues.", error)


def _plain(value: Any) -> float | str | bool:
    """Return a value as TensorBoard accepts it; a component in a list as its name."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return recorded_text(value)


def build(params: HParamsParams, context: RunContext) -> HParams:
    """Return the callback."""
    return HParams(params, context)
