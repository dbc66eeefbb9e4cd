"""What trackers of experiments share: one run, named by ourselves, fed in the background, and gone on with."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

import keras
from aip_plugins.callbacks.background import Background

from aipcore.params.names import count
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")

INTERRUPTED_SECONDS = 10.0
"""Most seconds to wait at the end after a signal, which leaves `trainer.grace_seconds` for everything."""

Values = dict[str, float]


class Tracker(keras.callbacks.Callback):
    """Hands the values of each epoch to a tracker, which is talked to in a thread only.

    The run's identity is made here and is state in each checkpoint, the one before the first batch included; the
    tracker's run begins after that one is written. So there is one run whatever is killed when. Values that could not
    be sent are state too.

    Args:
        what: the tracker's name.
        context: the run's.
        timeout: most seconds to wait at the end.
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
        """Begins the tracker's run; `on_train_begin` comes before the state of a resumed run."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Hands over what the epoch gave."""
        if not self.context.is_chief:
            return
        self._begin()
        self._unsent[epoch + 1] = time.time(), {name: float(value) for name, value in (logs or {}).items()}
        self._background.submit(lambda: self._send(epoch + 1))

    def on_run_end(self, end: RunEnd) -> None:
        """Says how the run ended, and waits for what is on its way."""
        if not self._opened:
            return
        self._background.submit(lambda: self.finish(end))
        pending = self._background.close(self._timeout if end.status != "interrupted" else INTERRUPTED_SECONDS)
        if pending:
            left = len(self._unsent)
            missing = f" ({count(left, 'epoch')} {'is' if left == 1 else 'are'} missing)" if self._unsent else ""
            logger.warning(
                "%s did not get all of this run%s; all values are in %s.",
                self._what, missing, self.context.output_dir / "tensorboard",
            )  # fmt: skip

    def get_state(self) -> dict[str, Any]:
        """Which run it is, and what the tracker does not have yet."""
        # The thread takes from it at any time.
        unsent = [[epoch, when, values] for epoch, (when, values) in list(self._unsent.items())]
        return {"run_id": self.run_id, "unsent": unsent}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on with the run of a checkpoint."""
        run_id = state["run_id"]
        if not isinstance(run_id, str) or not re.fullmatch(r"[0-9a-f]{32}", run_id):
            # It becomes part of a query of the tracker, and of a name of files.
            raise ValueError(f"{run_id!r} is not the name of a run")
        self._unsent = {
            int(epoch): (float(when), {str(name): float(value) for name, value in values.items()})
            for epoch, when, values in state["unsent"]
        }
        self.run_id, self.resumed = run_id, True

    def open(self) -> None:
        """Begins the tracker's run `run_id`, or goes on with it; again if it failed."""
        raise NotImplementedError

    def log(self, epoch: int, when: float, values: Values) -> None:
        """Adds the values of an epoch, counted from 1, unless the tracker has them.

        Args:
            epoch: counted from 1.
            when: seconds since 1970.
            values: by name.
        """
        raise NotImplementedError

    def finish(self, end: RunEnd) -> None:
        """Ends the tracker's run."""
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
    """Nested parameters by dotted name, as text; a component is named by itself."""
    if isinstance(params, list) and params and all(isinstance(each, dict) for each in params):
        params = {str(each.get("name", number)): each for number, each in enumerate(params)}
    if isinstance(params, dict) and params:
        found: dict[str, str] = {}
        for name, value in params.items():
            found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
        return found
    return {prefix: params if isinstance(params, str) else str(params)} if prefix else {}
