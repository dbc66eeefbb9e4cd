"""The callbacks of a run: built, checked, and called as `Model.fit` calls them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Literal

import attrs
import keras

from aipcore.errors import PluginError, ScenarioError
from aipcore.scenario.paths import layers_by_path
from aipcore.scenario.scenario import Scenario
from aipcore.training.callbacks.context import RunContext
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.reporter import TrainResult

TRAIN_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def wants_batches(callback: Any) -> bool:
    """Return True if a callback must be called for every single training batch.

    Such a callback overrides a batch hook, in its class or on the instance, and does not accept chunks.
    """
    if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq == "epoch":
        # Its own hook does nothing then; an override in a subclass counts.
        idle = keras.callbacks.ModelCheckpoint.on_train_batch_end
        overridden = [hook for hook in _overridden(callback, TRAIN_HOOKS) if _function(callback, hook) is not idle]
    else:
        overridden = _overridden(callback, TRAIN_HOOKS)
    return bool(overridden) and not getattr(callback, "accepts_chunks", False)


def wants_test_batches(callback: Any) -> bool:
    """Return True if a callback has a hook for validation batches."""
    return bool(_overridden(callback, TEST_HOOKS))


def _overridden(callback: Any, hooks: tuple[str, ...]) -> list[str]:
    return [hook for hook in hooks if _function(callback, hook) is not getattr(keras.callbacks.Callback, hook)]


def _function(callback: Any, hook: str) -> Any:
    method = getattr(callback, hook)
    return getattr(method, "__func__", method)


REFUSED = {
    "BackupAndRestore": "Remove it. Every run writes checkpoints, and `aip resume DIR` continues from the newest one.",
    "CallbackList": "Define a record for each of its callbacks.",
    "OrbaxCheckpoint": "Use keras.callbacks.ModelCheckpoint, or aip's own checkpoints.",
    "ProgbarLogger": "Remove it. Every run shows its progress.",
    "SwapEMAWeights": "Use --trainer.calc_ema. Validation and export then use the averaged weights.",
}
"""Keras callbacks that a run cannot use, and their replacements."""

OWN = "scenario."
"""Prefix of the names of the scenario's own callbacks. Names of plugins contain no dot."""

MONITORS = ("EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau")
"""Keras callbacks that monitor a value."""


def make_callbacks(
    builders: Mapping[str, Callable[[RunContext], Any]],
    context: RunContext,
    metrics: Mapping[str, Any],
    scenario: Scenario | None = None,
) -> dict[str, Any]:
    """Build the callbacks of a run: those of the scenario, then those of plugins.

    Args:
        builders: build functions by callback name.
        context: the context of the run.
        metrics: the Keras metrics of training, by logged name.
        scenario: the scenario, which may return callbacks.

    Raises:
        PluginError: a callback cannot work in a run.
        ScenarioError: the scenario returns something other than callbacks.
    """
    own = {} if scenario is None else _own_callbacks(scenario, context)
    callbacks = {**own, **{name: build(context) for name, build in builders.items()}}
    for name, callback in callbacks.items():
        _check(name, callback)
        if _is_any(callback, MONITORS) and callback.mode == "auto":
            callback.mode = _direction(name, callback, context.monitor, metrics)
    return callbacks


def _own_callbacks(scenario: Scenario, context: RunContext) -> dict[str, Any]:
    """Return the callbacks of a scenario by name: `scenario.CLASS`, with a number for further ones of a class."""
    given: Any = scenario.callbacks(context)
    where = f"{type(scenario).__name__}.callbacks()"
    if not isinstance(given, list | tuple):
        raise ScenarioError(f"{where} returns {type(given).__name__}, not a list. Return a list of Keras callbacks.")
    named: dict[str, Any] = {}
    for callback in given:
        kind = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback):
            what = f"the class {callback.__name__}" if isinstance(callback, type) else kind
            raise ScenarioError(f"{where} returns {what}, which is not a Keras callback. Return a list of callbacks.")
        number = 1 + sum(type(each).__name__ == kind for each in named.values())
        named[f"{OWN}{kind}" if number == 1 else f"{OWN}{kind}_{number}"] = callback
    return named


def _check(name: str, callback: Any) -> None:
    if not isinstance(callback, keras.callbacks.Callback):
        raise PluginError(
            f"The callback {name} is {type(callback).__name__}, not a Keras callback. "
            "Return a keras.callbacks.Callback from its build function."
        )
    if kind := _is_any(callback, tuple(REFUSED)):
        raise PluginError(
            f"The callback {name} is keras.callbacks.{kind}, which does not work in a run. {REFUSED[kind]}"
        )
    if _is_any(callback, ("RemoteMonitor",)) and find_spec("requests") is None:
        raise PluginError(
            f"The callback {name} is keras.callbacks.RemoteMonitor, which needs the package requests. "
            "Install it, or use --callbacks Webhook."
        )


def _is_any(callback: Any, kinds: tuple[str, ...]) -> str:
    """Return the name of the first of these Keras classes that a callback is an instance of, or an empty string."""
    return next((kind for kind in kinds if isinstance(callback, getattr(keras.callbacks, kind))), "")


def _direction(name: str, callback: Any, monitor: tuple[str, str], metrics: Mapping[str, Any]) -> str:
    """Return the better direction ("min" or "max") of the value that a callback monitors.

    Keras reads it from the metrics that the model was compiled with, but aip uses its own metrics.
    """
    if callback.monitor == monitor[1]:
        return monitor[0]
    plain = callback.monitor.removeprefix("val_")
    if plain == "loss":
        return "min"
    direction = getattr(metrics.get(plain), "_direction", None)
    if direction is None:
        raise PluginError(
            f"The callback {name} monitors {callback.monitor}. Neither the scenario nor Keras defines whether lower or "
            f'higher values are better. Pass mode="min" or mode="max" to keras.callbacks.{_is_any(callback, MONITORS)}.'
        )
    return "max" if direction == "up" else "min"


class RunCallbacks(keras.callbacks.CallbackList):  # type: ignore[misc]
    """The callbacks of a run as `Model.fit` calls them.

    With an EMA of the weights, the model has the averaged weights wherever a callback receives validation values or may
    save: in `on_epoch_end` and `on_train_end`. Weights that a callback assigns there are kept.

    Args:
        callbacks: callbacks by name.
        model: the trained model, as compiled.
        average: the EMA of its weights, or None.
        epochs, steps: the number of epochs, and the batches per epoch.
    """

    def __init__(
        self, callbacks: Mapping[str, Any], *, model: Any, average: WeightAverage | None, epochs: int, steps: int
    ) -> None:
        self._average = average if callbacks else None
        self._trainable = _trainable(model)
        for callback in callbacks.values():
            if average is not None and _is_any(callback, ("ModelCheckpoint",)) and callback.save_freq != "epoch":
                _save_average(callback, average)
        self._test_batches = any(map(wants_test_batches, callbacks.values()))
        super().__init__(list(callbacks.values()), add_history=True, model=model, epochs=epochs, steps=steps, verbose=0)
        self._names = {id(callback): name for name, callback in callbacks.items()}
        self._stopped_by = ""
        self.callbacks = _Called(vars(self)["callbacks"], self._note)

    @property
    def why_stopped(self) -> str:
        """The sentence about the first callback that set `model.stop_training`."""
        # Without a name, it is a callback of another worker.
        return f"The callback {self._stopped_by} stopped the run" if self._stopped_by else "A callback stopped the run"

    def _note(self, callback: Any) -> None:
        if self.model.stop_training and not self._stopped_by:
            self._stopped_by = self._names.get(id(callback), "")

    @property
    def test_batches(self) -> RunCallbacks | None:
        """The list itself if a callback has hooks for validation batches, else None."""
        return self if self._test_batches else None

    def on_train_begin(self, logs: Any = None) -> None:
        """Call `on_train_begin`, before the first epoch."""
        with self._averaged():
            super().on_train_begin(logs)
        self._check_trainable("when training begins")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Call `on_epoch_begin`, before the first batch of an epoch."""
        super().on_epoch_begin(epoch, logs)
        self._check_trainable(f"in epoch {epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Call `on_epoch_end`, after the validation of an epoch."""
        with self._averaged():
            super().on_epoch_end(epoch, logs)
        self._check_trainable(f"in epoch {epoch + 1}")

    def on_train_end(self, logs: Any = None) -> None:
        """Call `on_train_end`, after the last epoch and before the model is exported."""
        with self._averaged():
            super().on_train_end(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Call `on_test_begin`, before the first batch of a validation."""
        self.model.stop_evaluating = False
        super().on_test_begin(logs)

    def on_step_validation(self, step: int, logs: Mapping[str, float]) -> None:
        """Call `on_step_validation` of each callback that has it, after a validation within an epoch.

        Args:
            step: completed optimizer updates of the run.
            logs: losses and metrics of the epoch so far, the learning rate, and the results, which begin with `val_`.
        """
        with self._averaged():
            self._call("on_step_validation", step, logs)

    def on_step_logged(self, step: int, logs: Mapping[str, float]) -> None:
        """Call `on_step_logged` of each callback that has it, after the call of the compiled loop with that update.

        Args:
            step: completed optimizer updates of the run.
            logs: losses and metrics of the epoch so far, the learning rate of the update, and the throughput.
        """
        self._call("on_step_logged", step, logs)

    def _call(self, hook: str, step: int, logs: Mapping[str, float]) -> None:
        for callback in self.callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(step, dict(logs))

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.applied()

    def accept_trainable(self) -> None:
        """Accept the current `trainable` flags as those of the run."""
        self._trainable = _trainable(self.model)

    def _check_trainable(self, when: str) -> None:
        for name, each, trainable in self._trainable:
            if each.trainable != trainable:
                raise ScenarioError(
                    f"A callback sets trainable = {each.trainable} on {name} {when}. Callbacks cannot change what a "
                    "run trains. Freeze layers with --trainer.no_train_scope, or for some epochs with --trainer.rates."
                )


class _Called(list[Any]):
    """A list of callbacks that reports each callback as soon as a loop over the list has called it."""

    def __init__(self, callbacks: Iterable[Any], note: Callable[[Any], None]) -> None:
        super().__init__(callbacks)
        self._note = note

    def __iter__(self) -> Iterator[Any]:
        for callback in super().__iter__():
            yield callback
            self._note(callback)


def _trainable(model: Any) -> list[tuple[str, Any, bool]]:
    """Return the layers with weights and the variables of a model, with their paths and `trainable` flags."""
    layers = [(path, layer) for path, layer in layers_by_path(model) if layer.weights]
    found = [*layers, *((variable.path, variable) for variable in model.variables)]
    return [(path, each, each.trainable) for path, each in found]


def _save_average(callback: Any, average: WeightAverage) -> None:
    """Make a ModelCheckpoint that saves between batches save the averaged weights, swapped in only while it saves."""
    save = callback._save_model

    def save_average(*arguments: Any, **named: Any) -> None:
        with average.applied():
            save(*arguments, **named)

    callback._save_model = save_average


logger = logging.getLogger("aipcore.training")


@attrs.frozen(kw_only=True, eq=False)
class RunEnd:
    """The result of a run, for callbacks that have `on_run_end(end)`.

    Attributes:
        status: "finished" after its last epoch, "stopped" by early stopping or a callback, "interrupted" by a signal,
            "failed" with an error.
        epochs: completed epochs.
        seconds: training time of this process; None if it failed.
        best: the best monitored value, or None.
        best_epoch: the epoch of the best value, counted from 1, or None.
        error: the error that ended the run, or None.
    """

    status: Literal["finished", "stopped", "interrupted", "failed"]
    epochs: int
    seconds: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    error: BaseException | None = None


@attrs.define
class Ending:
    """A holder for the result of a run.

    Attributes:
        result: the result; None until the run has one.
        epochs: completed epochs.
    """

    result: TrainResult | None = None
    epochs: int = 0


@contextmanager
def telling_callbacks(callbacks: Mapping[str, Any]) -> Iterator[Ending]:
    """Call `on_run_end` of each callback that has it, once, after the enclosed run has ended.

    Keras does not call `on_train_end` when a run fails, and calls it before the model is exported. `on_run_end` comes
    last. An error in it is logged, not raised: the run's results are already on disk.
    """
    ending = Ending()
    try:
        yield ending
    except KeyboardInterrupt as error:
        _tell(callbacks, RunEnd(status="interrupted", epochs=ending.epochs, error=error))
        raise
    except BaseException as error:
        _tell(callbacks, RunEnd(status="failed", epochs=ending.epochs, error=error))
        raise
    result = ending.result
    assert result is not None
    end = RunEnd(
        status=result.status, epochs=result.epochs, seconds=result.seconds, best=result.best,
        best_epoch=result.best_epoch,
    )  # fmt: skip
    _tell(callbacks, end)


def _tell(callbacks: Mapping[str, Any], end: RunEnd) -> None:
    for name, callback in callbacks.items():
        if not hasattr(callback, "on_run_end"):
            continue
        try:
            callback.on_run_end(end)
        except Exception as error:
            logger.warning("The callback %s failed at the end of the run (%s: %s).", name, type(error).__name__, error)
