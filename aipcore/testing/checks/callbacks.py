"""Checks of callbacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.testing.checks.parameters import build_at_limits
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import CheckSkippedError, require
from aipcore.testing.subject import Subject

if TYPE_CHECKING:
    from aipcore.training.callbacks.context import RunContext
    from aipcore.training.trainer import Trainer

MADE = ("parameters_can_be_created",)
BUILT = ("builds",)
RUNS = ("runs_in_training",)


def _trainer(subject: Subject, folder: Path, *, with_it: bool = True, **values: Any) -> Trainer:
    """Return a short run, with or without the callback."""
    from aipcore.testing.small import Blobs, Images, make_trainer

    scenario = Images if subject.declared.images else Blobs
    folder.mkdir(exist_ok=True)
    callbacks = {subject.name: lambda context: subject.build(subject.params(), context)} if with_it else {}
    return make_trainer(subject.manager, callbacks=callbacks, folder=folder, scenario=scenario, **values)


def _sparse(subject: Subject, *, with_it: bool = True) -> tuple[int, dict[str, bytes]]:
    """Return the last epoch and the state of a run of three epochs with infrequent validation."""

    def train(folder: Path) -> tuple[int, dict[str, bytes]]:
        trainer = _trainer(subject, folder, with_it=with_it, epochs=3, val_every_n=2, write_checkpoints=False)
        trainer.fit()
        return trainer.state.epoch, _state(trainer)

    # Without the callback, the run is the same for all callbacks.
    shared = subject.shared if with_it else subject.processes.shared
    return shared(f"sparse {subject.declared.images}", train)


@attrs.frozen
class _Whole:
    """A run of four epochs without checkpoints.

    Attributes:
        called: hooks in the order of their calls.
        changed: hooks that changed the logs.
        has_model: True if the callback has the model of the run.
        folder: folder with the working folder `here` and the output folder `run`.
        state: complete state of the computation after the run.
    """

    called: list[str]
    changed: list[str]
    has_model: bool
    folder: Path
    state: dict[str, bytes]


def _whole(subject: Subject) -> _Whole:
    """Return the run of four epochs."""

    def train(folder: Path) -> _Whole:
        from contextlib import chdir

        trainer = _trainer(subject, folder / "run", epochs=4, write_checkpoints=False)
        callback = _made(trainer)
        called: list[str] = []
        changed: list[str] = []
        for hook in ("train_begin", "epoch_begin", "test_begin", "test_end", "epoch_end", "train_end"):
            _record(callback, hook, called, changed)
        (folder / "here").mkdir()
        with chdir(folder / "here"):
            trainer.fit()
        return _Whole(called, changed, callback.model is trainer.model, folder, _state(trainer))

    return subject.shared("whole", train)


def _half(subject: Subject) -> Path:
    """Return the output folder of a run of two epochs with checkpoints."""

    def train(folder: Path) -> Path:
        _trainer(subject, folder, epochs=2).fit()
        return folder

    return subject.shared("half", train)


def _made(trainer: Trainer) -> Any:
    return next(iter(trainer.callbacks.values()))


def _state(trainer: Trainer) -> dict[str, bytes]:
    """Return the complete state of the computation."""
    return {name: array.tobytes() for name, array in trainer.state.variables.read().items()}


@conformance_check("callback", needs=MADE)
def builds(subject: Subject) -> None:
    """`build` returns a Keras callback."""
    import keras

    made = _made(_trainer(subject, subject.folder / "run"))
    require(
        isinstance(made, keras.callbacks.Callback),
        f"build returned {type(made).__name__}: return a keras.callbacks.Callback",
    )


@conformance_check("callback", needs=BUILT)
def builds_at_its_limits(subject: Subject) -> None:
    """`build` accepts every value inside the limits of the parameters, the limits included."""
    from aipcore.testing.small import make_trainer

    contexts: list[RunContext] = []

    def keep(context: RunContext) -> Any:
        import keras

        contexts.append(context)
        return keras.callbacks.Callback()

    make_trainer(subject.manager, callbacks={"keep": keep}, folder=subject.folder)
    build_at_limits(subject, lambda params: subject.build(params, contexts[0]))


@conformance_check("callback", needs=BUILT)
def runs_in_training(subject: Subject) -> None:
    """No hook raises in a run with infrequent validation, and the run reaches its last epoch."""
    epoch, _ = _sparse(subject)
    require(epoch == 3, f"the run ended after epoch {epoch} of 3, although its losses were finite")


@conformance_check("callback", needs=RUNS)
def keeps_the_order_of_hooks(subject: Subject) -> None:
    """Hooks are called in order and with access to the model, and leave the logs unchanged for other callbacks."""
    whole = _whole(subject)
    epoch = ["epoch_begin", "test_begin", "test_end", "epoch_end"]
    require(
        whole.called == ["train_begin", *epoch * 4, "train_end"],
        f"hooks were called in the order {', '.join(whole.called)}",
    )
    require(whole.has_model, "callback.model is not the model of the run")
    require(not whole.changed, f"{', '.join(dict.fromkeys(whole.changed))} changes the logs that other callbacks read")


def _record(callback: Any, hook: str, called: list[str], changed: list[str]) -> None:
    original: Callable[..., Any] = getattr(callback, f"on_{hook}")

    @wraps(original)
    def recorded(*arguments: Any) -> Any:
        called.append(hook)
        logs = arguments[-1] if arguments and isinstance(arguments[-1], dict) else None
        before = None if logs is None else dict(logs)
        result = original(*arguments)
        if logs != before:
            changed.append(f"on_{hook}")
        return result

    setattr(callback, f"on_{hook}", recorded)


@conformance_check("callback", needs=RUNS)
def changes_nothing(subject: Subject) -> None:
    """Weights and optimizer are bit-identical with and without the callback, if it is an `observer`."""
    if not subject.declared.observer:
        raise CheckSkippedError("declared with observer = False")
    _, found = _sparse(subject)
    _, expected = _sparse(subject, with_it=False)
    differ = [name for name, value in expected.items() if found.get(name) != value]
    require(
        not differ, f"{', '.join(differ[:3])} differ with the callback: declare observer = False if this is intended"
    )


@conformance_check("callback", needs=RUNS)
def keeps_its_state(subject: Subject) -> None:
    """The state from `get_state` survives a checkpoint and `set_state` on a new callback, which returns it again."""
    from aipcore.errors import TrainingError
    from aipcore.training.checkpoint import callback_state
    from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

    first, second = (_made(_trainer(subject, subject.folder / name)) for name in ("first", "second"))
    has = [name for name in ("get_state", "set_state") if hasattr(first, name)]
    if not has:
        raise CheckSkippedError("it has no state")
    require(len(has) == 2, f"it defines only {has[0]}: define both get_state and set_state")
    # The state during the run: later, files are closed.
    saved = read_checkpoint(newest_checkpoint(_half(subject) / "checkpoint"))
    state = saved.progress["callbacks"][subject.name]
    arrays = {name: array for name, array in saved.arrays.items() if name.startswith(callback_state.PREFIX)}
    try:
        callback_state.set_state(subject.name, second, json.loads(json.dumps(state)), arrays)
        back, arrays_back = callback_state.get_state(subject.name, second)
    except TrainingError as error:
        raise AssertionError(str(error)) from error
    given, taken = (
        json.dumps(_shown(callback_state.put_together(*each)), sort_keys=True)
        for each in ((state, arrays), (back, arrays_back))
    )
    require(given == taken, f"the state {given[:200]} is restored as {taken[:200]}")


def _shown(value: Any) -> Any:
    """Return a state as values of JSON, in which NaN equals itself, and a number of NumPy that of Python."""
    import numpy as np

    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, np.generic):
        return value.item() if isinstance(value, np.bool_ | np.integer | np.floating) else str(value)
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": value.shape, "values": [_shown(item) for item in value.flat]}
    return value


@conformance_check("callback", needs=RUNS)
def resumes_bit_identically(subject: Subject) -> None:
    """A run resumed after half of its epochs is bit-identical to an uninterrupted run."""
    from aipcore.training.checkpoint.format import newest_checkpoint

    parts = Path(shutil.copytree(_half(subject), subject.folder / "parts"))
    resumed = _trainer(subject, parts, epochs=4)
    resumed.restore(newest_checkpoint(parts / "checkpoint"))
    resumed.fit()
    expected, found = _whole(subject).state, _state(resumed)
    differ = [name for name, value in expected.items() if found.get(name) != value]
    require(not differ, f"{', '.join(differ[:3])} differ: return the complete state of the callback from get_state()")


@conformance_check("callback", needs=RUNS)
def writes_into_its_folder(subject: Subject) -> None:
    """The callback writes files only into the run's output folder."""
    folder = _whole(subject).folder
    _only(folder / "here", set(), "the working folder")
    _only(folder, {"here", "run"}, "the folder beside the output folder")


def _only(folder: Path, expected: set[str], where: str) -> None:
    found = sorted({path.name for path in folder.iterdir()} - expected)
    require(not found, f"it writes {', '.join(found)} to {where}: write to context.output_dir")
