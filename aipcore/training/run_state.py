"""A trainer's state as a checkpoint, and a trainer brought back to the state of one: what saving and resuming share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.devices.distribution import components
from aipcore.errors import TrainingError
from aipcore.files import read_json
from aipcore.training import callback_state
from aipcore.training.checkpoint import Checkpoint
from aipcore.training.monitor import Monitor
from aipcore.training.tuning import Compilation

if TYPE_CHECKING:
    from aipcore.training.trainer import Trainer

GROUP = "loop/group_"
"""What the names of the variables of gradient accumulation begin with."""


def snapshot(trainer: Trainer) -> Checkpoint:
    """Everything that a run goes on from, as it is now; nothing in it changes afterwards. See `VariableState.read`.

    Raises:
        TrainingError: a callback's state cannot be saved.
    """
    assert trainer.compilation is not None
    states, arrays = {}, trainer.state.gather()
    for name, callback in trainer.callbacks.items():
        states[name], found = callback_state.get_state(name, callback)
        arrays |= found
    progress = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "batching": attrs.asdict(trainer.batching),
        "accumulate_steps": trainer.trainer.accumulate_steps,
        "seed": trainer.seed,
        "stopped": trainer.stopped,
        "history": list(trainer.history),
        "monitor": trainer.monitor.state(),
        "compilation": attrs.asdict(trainer.compilation),
        "callbacks": states,
    }
    return Checkpoint(arrays=arrays, progress=progress, about=dict(trainer.about))


def restore(trainer: Trainer, stored: Checkpoint, *, recompile: bool = False) -> None:
    """Brings a trainer to the state of a checkpoint: all variables, the position in the data, the history, the best.

    To be called after everything that initialises weights. The states of callbacks follow when the run begins.

    Args:
        trainer: of the same model and optimizer, not yet run.
        stored: the checkpoint.
        recompile: whether to choose anew how the loop is compiled.

    Raises:
        TrainingError: the checkpoint is of another model, or its position does not exist in this run; nothing was
            changed.
    """
    arrays = dict(stored.arrays)
    of_callbacks = {name: arrays.pop(name) for name in list(arrays) if name.startswith(callback_state.PREFIX)}
    try:
        progress = stored.progress
        position = _position(trainer, progress)
        monitor = dict(progress["monitor"])
        compilation = Compilation(**progress["compilation"])
        history = [{str(key): float(value) for key, value in logs.items()} for logs in progress["history"]]
        callbacks = dict(progress["callbacks"])
        seed, stopped = int(progress["seed"]), str(progress.get("stopped") or "")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TrainingError(
            f"The checkpoint's progress.json is not what aip writes ({type(error).__name__}: {error}): "
            "take another checkpoint."
        ) from error
    if seed != trainer.seed:
        raise TrainingError(
            f"The checkpoint is of a run with the seed {seed}, this one has {trainer.seed}: the order of the data "
            f"depends on it, so give --trainer.random_seed {seed} or leave the option out."
        )
    if progress.get("accumulate_steps") != trainer.trainer.accumulate_steps:
        # Between two groups there is no sum of gradients to go on from: those of this run are zero already.
        arrays = {name: array for name, array in arrays.items() if not name.startswith(GROUP)}
        arrays |= {name: value for name, value in trainer.state.read().items() if name.startswith(GROUP)}
    _check_types(trainer, arrays)
    trainer.state.write(arrays)
    trainer.epoch, trainer.step = position
    trainer.history = history
    trainer.stopped = stopped
    trainer.monitor.restore(monitor)
    trainer.compilation = None if recompile else compilation
    trainer.pending_states = {
        name: (state, of_callbacks) for name, state in callbacks.items() if name in trainer.callbacks
    }
    trainer.warm_start = None
    best = None if trainer.output_dir is None else kept_best(trainer.output_dir / "best", trainer.monitor)
    trainer.saver.kept_best = trainer.workers.broadcast("the model in best", best)
    trainer.workers.require_same({"the checkpoint": list(position)})


def _position(trainer: Trainer, progress: Mapping[str, Any]) -> tuple[int, int]:
    """Epoch and batch at which this run goes on, where batches of another size count anew."""
    epoch, step = int(progress["epoch"]), int(progress["step"])
    if epoch < 0 or step < 0:
        raise ValueError(f"epoch {epoch}, step {step}")
    before = progress.get("batching") or attrs.asdict(trainer.batching)
    accumulate = progress.get("accumulate_steps", trainer.trainer.accumulate_steps)
    if step == 0:
        return epoch, 0
    here = f"The checkpoint lies within epoch {epoch + 1}, after {step} batches"
    if before["samples"] != trainer.batching.samples:
        raise TrainingError(
            f"{here}, and an epoch has {trainer.batching.samples:,} samples now instead of {before['samples']:,}: "
            "resume without this change up to the end of an epoch, or take a checkpoint from there."
        )
    done = min(step * before["batch_size"], before["samples"])
    size = trainer.batching.batch_size
    if size != before["batch_size"] and done % size and done != before["samples"]:
        raise TrainingError(
            f"{here} of {before['batch_size']}, and these {done:,} samples are no whole number of batches of {size}: "
            f"give a --train.batch_size that divides {done}, or take a checkpoint from the end of an epoch."
        )
    now = -(-done // size)
    regrouped = accumulate != trainer.trainer.accumulate_steps or size != before["batch_size"]
    if regrouped and step % accumulate and done != before["samples"]:
        raise TrainingError(
            f"{here}, of which the last {step % accumulate} wait for their optimizer update: "
            "trainer.accumulate_steps and train.batch_size cannot change here; take a checkpoint from between epochs."
        )
    return epoch, now


def _check_types(trainer: Trainer, arrays: Mapping[str, Any]) -> None:
    for name, variable in trainer.state.variables.items():
        dtype = components(variable)[0].dtype
        wanted = getattr(dtype, "name", dtype)
        if name in arrays and arrays[name].dtype.name != wanted:
            raise TrainingError(
                f"The saved state is of another model: {name} is of type {arrays[name].dtype.name} there "
                f"and {wanted} here."
            )


def kept_best(folder: Path, monitor: Monitor) -> float | None:
    """The monitored value of the model in `best`, None if there is none or it is of another value.

    It can be better than the checkpoint knows, if the run went on after that.
    """
    try:
        recorded = read_json(folder / "aip.json")["monitor"]
        if (recorded["mode"], recorded["name"]) == (monitor.mode, monitor.name):
            return float(recorded["value"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    return None


def restore_callbacks(trainer: Trainer) -> None:
    """Hands callbacks their states, after `on_train_begin`.

    Raises:
        TrainingError: see `callback_state.set_state`.
    """
    for name, (state, arrays) in trainer.pending_states.items():
        callback_state.set_state(name, trainer.callbacks[name], state, arrays)
    trainer.pending_states = {}
