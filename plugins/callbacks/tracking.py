"""The common base of experiment trackers: one run with its own id, fed in the background, and resumed."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

import keras
from aip_plugins.callbacks.background import Background

from aipcore.params.dump import component_keys
from aipcore.params.names import count
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")

INTERRUPTED_SECONDS = 10.0
"""The most seconds to wait at the end after a signal; `trainer.grace_seconds` covers everything."""

Values = dict[str, float]


class Tracker(keras.callbacks.Callback):
    """A tracker of the values of each epoch, contacted only from a thread.

    The id of the tracker's run is created here and saved in each checkpoint, including the one before the first batch.
    The tracker's run begins after that checkpoint is written. There is therefore one run, even if the process is killed
    at any time. Values not yet sent are saved too.

    Args:
        what: the tracker's name.
        context: the context of the run.
        timeout: the most seconds to wait at the end.
    """

    def __init__(self, what: str, context: RunContext, timeout: float) -> None:
        super().__init__()
        self.context = context
        self.run_id = uuid.uuid4().hex
        self.resumed = False
        self._what = what
        self._timeout = timeout
        self._unsent: dict[int, tuple[float, Values]] = {}
        self._opened = False
        self._background = Background(what, retry=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin the tracker's run. `on_train_begin` would be too early: it precedes the state of a resumed run."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Send the values of the epoch."""
        if not self.context.is_chief:
            return
        self._begin()
        self._unsent[epoch + 1] = time.time(), {name: float(value) for name, value in (logs or {}).items()}
        self._background.submit(lambda: self._send(epoch + 1))

    def on_run_end(self, end: RunEnd) -> None:
        """Report the end of the run, and wait for pending values."""
        if not self._opened:
            return
        self._background.submit(lambda: self.finish(end))
        pending = self._background.close(self._timeout if end.status != "interrupted" else INTERRUPTED_SECONDS)
        if pending:
            left = len(self._unsent)
            missing = f" ({count(left, 'epoch')} {'is' if left == 1 else 'are'} missing)" if self._unsent else ""
            logger.warning(
                "%s did not receive all data of this run%s. All values are in %s.",
                self._what, missing, self.context.output_dir / "tensorboard",
            )  # fmt: skip

    def get_state(self) -> dict[str, Any]:
        """Return the run's id and the values that the tracker lacks."""
        # The thread removes entries at any time.
        unsent = [[epoch, when, values] for epoch, (when, values) in list(self._unsent.items())]
        return {"run_id": self.run_id, "unsent": unsent}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue the run of a checkpoint."""
        run_id = state["run_id"]
        if not isinstance(run_id, str) or not re.fullmatch(r"[0-9a-f]{32}", run_id):
            # The id becomes part of a query of the tracker, and of file names.
            raise ValueError(f"{run_id!r} is not the name of a run")
        self._unsent = {
            int(epoch): (float(when), {str(name): float(value) for name, value in values.items()})
            for epoch, when, values in state["unsent"]
        }
        self.run_id, self.resumed = run_id, True

    def open(self) -> None:
        """Begin or resume the tracker's run `run_id`; called again after a failure."""
        raise NotImplementedError

    def log(self, epoch: int, when: float, values: Values) -> None:
        """Log the values of an epoch, unless the tracker has them.

        Args:
            epoch: counted from 1.
            when: seconds since 1970.
            values: the values by name.
        """
        raise NotImplementedError

    def finish(self, end: RunEnd) -> None:
        """End the tracker's run."""
        raise NotImplementedError

    def _begin(self) -> None:
        if self._opened or not self.context.is_chief:
            return
        self._opened = True
        self._background.submit(self.open)
        for epoch in sorted(self._unsent):
            self._background.submit(lambda epoch=epoch: self._send(epoch))

    def _send(self, epoch: int) -> None:
        self.log(epoch, *self._unsent[epoch])
        del self._unsent[epoch]


def flat(params: Any, prefix: str = "") -> dict[str, str]:
    """Return nested parameters by dotted name, as text; a component is represented by its name."""
    if keys := component_keys(params):
        params = dict(zip(keys, params, strict=True))
    if isinstance(params, dict) and params:
        found: dict[str, str] = {}
        for name, value in params.items():
            found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
        return found
    return {prefix: params if isinstance(params, str) else str(params)} if prefix else {}
