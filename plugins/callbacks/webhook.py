"""A callback that reports the progress of a run to a URL."""

from __future__ import annotations

import json
import platform
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import keras
from aip_plugins.callbacks.background import Background
from aip_plugins.callbacks.remote_params import WebhookParams

from aipcore.errors import TrainingError
from aipcore.params.names import count
from aipcore.params.secret import redacted
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext

WORDS = {"finished": "finished", "stopped": "stopped early", "interrupted": "was interrupted", "failed": "failed"}


class Webhook(keras.callbacks.Callback):
    """JSON messages to a URL when a run starts and ends, and at selected epochs.

    A thread sends them, so training never waits; the end of the run waits for `timeout` seconds at most. A message that
    cannot be delivered is dropped, with a warning for the first one.
    """

    def __init__(self, params: WebhookParams, context: RunContext) -> None:
        super().__init__()
        self.webhook = params
        self.context = context
        self.best: float | None = None
        self.started = False
        self._background = Background("The webhook", retry=False)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check that the URL is set.

        Raises:
            UsageError: the environment lacks it.
        """
        url = self.webhook.resolved_url()
        parts = urlsplit(url)
        # Such URLs hold their secret in the path and the rest.
        self._background.what = f"The webhook {parts.scheme}://{parts.hostname}"

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the start. `on_train_begin` would be too early: it does not yet know that a run is resumed."""
        self._start(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report an epoch that is due or the best so far."""
        self._start(epoch)
        logs, name = logs or {}, self.context.monitor[1]
        value = logs.get(name)
        best = value is not None and self.context.improved(float(value), self.best)
        if best and value is not None:
            self.best = float(value)
        every = self.webhook.every_n_epochs
        if (best and self.webhook.new_best) or (every and (epoch + 1) % every == 0):
            shown = "" if value is None else f", {name} {float(value):.4g}{' (best so far)' if best else ''}"
            values = {key: float(each) for key, each in logs.items()}
            text = f"epoch {epoch + 1} of {self.context.horizon.epochs}{shown}"
            self._post("epoch", text, epoch=epoch + 1, logs=values, is_best=best)

    def on_run_end(self, end: RunEnd) -> None:
        """Report the end, and wait for pending messages."""
        best = "" if end.best is None else f", best {self.context.monitor[1]} {end.best:.4g} in epoch {end.best_epoch}"
        error = None if end.error is None else redacted(f"{type(end.error).__name__}: {end.error}")
        after = (
            f" after {count(end.epochs, 'epoch')}{best}"
            if error is None
            else f" after {count(end.epochs, 'epoch')}: {error}"
        )
        self._post(
            "failure" if end.status == "failed" else "end", f"{WORDS[end.status]}{after}", status=end.status,
            epoch=end.epochs, best=end.best, best_epoch=end.best_epoch, seconds=end.seconds, error=error,
        )  # fmt: skip
        self._background.close(self.webhook.timeout)

    def get_state(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of `get_state`."""
        self.best = None if state["best"] is None else float(state["best"])

    def _start(self, epoch: int) -> None:
        if not self.started:
            self.started = True
            epochs = self.context.horizon.epochs
            text = f"started: {count(epochs, 'epoch')}" if epoch == 0 else f"resumed at epoch {epoch + 1} of {epochs}"
            self._post("start", text, epoch=epoch)

    def _post(self, event: str, text: str, **more: Any) -> None:
        if not self.context.is_chief:
            return
        folder = str(self.context.output_dir.absolute())
        told = {
            "text": f"{self.context.scenario} ({self.context.output_dir.name} on {platform.node()}) {text}.",
            "event": event,
            "scenario": self.context.scenario,
            "output_dir": folder,
            "host": platform.node(),
            "epochs": self.context.horizon.epochs,
            "monitor": self.context.monitor[1],
            **more,
        }
        self._background.submit(lambda: self._send(told))

    def _send(self, told: Mapping[str, Any]) -> None:
        # JSON has no NaN; a receiver would reject the whole message.
        body = json.dumps(_plain(told), allow_nan=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "aip"}
        request = urllib.request.Request(self.webhook.resolved_url(), body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.webhook.timeout) as answer:
                answer.read()
        except HTTPError as error:
            with error:
                raise TrainingError(f"HTTP status {error.code} {error.reason}") from None
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise TrainingError(f"no answer within {self.webhook.timeout:g} s") from None
            # Only the system's error text: other texts may repeat the URL.
            raise TrainingError(getattr(reason, "strerror", None) or type(reason).__name__) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return str(value)
    return value


def build(params: WebhookParams, context: RunContext) -> Webhook:
    """Return the callback."""
    return Webhook(params, context)
