"""The state of a run: everything in a checkpoint, and the position for resuming."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from aipcore.data.batching import Batching
from aipcore.data.streamed import StreamDataset
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import components
from aipcore.errors import TrainingError
from aipcore.files import read_json
from aipcore.params.names import count
from aipcore.training.checkpoint import callback_state
from aipcore.training.checkpoint.format import Checkpoint
from aipcore.training.engine.compilation import Compilation
from aipcore.training.monitor import Monitor
from aipcore.training.steps import Steps
from aipcore.training.variables import VariableState

logger = logging.getLogger("aipcore.training")

STREAM = "stream/"
"""Prefix of the names of arrays that belong to the position in a stream."""

PLACE = ("step", "epoch")
"""The keys of an entry of `RunState.validations` that are not results."""

GROUP = "loop/group_"
"""Prefix of the names of the variables of gradient accumulation."""


MOST_REPLICAS = 4096
"""Maximum number of replicas in a checkpoint: each costs time when it is loaded for another number."""


class RunState:
    """The state of a run.

    Args:
        variables: the variables of model, optimizer, metrics, loop and EMA.
        monitor: the best epoch so far.
        callbacks: callbacks by name; those with a state are included.
        batching: the division of an epoch into batches.
        steps: the optimizer updates of an epoch.
        seed: the seed of the run.
        stream: the stream of the training samples, or None.
        processes: the processes of the run.

    Attributes:
        epoch: completed epochs.
        step: completed batches of the current epoch.
        history: the logs of each epoch.
        validations: the results of each validation with its `step` and `epoch`, if the run validates by steps.
        partial: True if `trainer.max_steps` ended the last epoch before its last batch.
        stopped: the reason for stopping before the last epoch, or "".
        compilation: the compilation of the loop, once it has been chosen.
    """

    def __init__(
        self,
        variables: VariableState,
        monitor: Monitor,
        callbacks: Mapping[str, Any],
        batching: Batching,
        *,
        steps: Steps,
        seed: int,
        stream: StreamDataset | None = None,
        processes: ProcessGroup | None = None,
    ) -> None:
        self.variables = variables
        self.monitor = monitor
        self.callbacks = callbacks
        self.batching = batching
        self.steps = steps
        self.accumulate_steps = steps.accumulate_steps
        self.seed = seed
        self.stream = stream
        self._processes = processes or ProcessGroup()
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.partial = False
        self._before = 0
        self.stopped = ""
        self.compilation: Compilation | None = None
        self._callback_states: dict[str, tuple[Any, Any]] = {}

    @property
    def batches(self) -> int:
        """Completed batches of the run."""
        return self.epoch * self.batching.steps + self.step

    @property
    def updates(self) -> int:
        """Completed optimizer updates of the run; see `Steps`."""
        return self._before + self.epoch * self.steps.per_epoch + self.steps.completed(self.step)

    @property
    def epochs(self) -> int:
        """The number of epochs in which the run trains."""
        return self.steps.last_epoch(self._before)

    @property
    def epoch_end(self) -> int:
        """The number of batches to train in the current epoch."""
        return self.steps.end(self.updates - self.steps.completed(self.step))

    @property
    def validated(self) -> int:
        """The update of the last entry of `validations`, or 0."""
        return int(self.validations[-1]["step"]) if self.validations else 0

    @property
    def total_batches(self) -> int:
        """The number of batches of the whole run."""
        last = self.epochs - 1
        return last * self.batching.steps + self.steps.end(self._before + last * self.steps.per_epoch)

    @property
    def is_partial(self) -> bool:
        """True if `trainer.max_steps` ends the current epoch here, before its last batch."""
        return self.epoch_end <= self.step < self.batching.steps

    def end_epoch(self) -> None:
        """Continue with the next epoch. Untrained batches of this one do not count as updates."""
        self.partial, updates = self.is_partial, self.updates
        self.epoch, self.step = self.epoch + 1, 0
        self._before += updates - self.updates

    def outcome(self) -> dict[str, Any]:
        """Return the epochs, the logs and the best epoch so far, as arguments of `TrainResult`."""
        monitor = self.monitor
        best = {"best": monitor.best, "best_epoch": monitor.best_epoch, "best_step": monitor.best_step}
        counted = {"epochs": self.epoch, "updates": self.updates, "partial": self.partial}
        return {**counted, "history": self.history, "validations": self.validations, "monitor": monitor.name, **best}

    @property
    def position(self) -> tuple[int, int]:
        """Completed epochs, and completed batches of the current epoch."""
        return self.epoch, self.step

    def snapshot(self, about: Mapping[str, Any]) -> Checkpoint:
        """Return a copy of the current state. It does not change afterwards; see `VariableState.read`.

        Args:
            about: the identity of the run.

        Raises:
            TrainingError: a callback's state cannot be saved.
        """
        assert self.compilation is not None
        states, arrays = {}, self.variables.gather()
        for name, callback in self.callbacks.items():
            states[name], found = callback_state.get_state(name, callback)
            arrays |= found
        position = None if self.stream is None else self._stream_position(self.stream, arrays)
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "updates": self.updates,
            "batching": attrs.asdict(self.batching),
            "accumulate_steps": self.accumulate_steps,
            "seed": self.seed,
            "replicas": self.variables.replicas,
            "stopped": self.stopped,
            "history": list(self.history),
            "validations": list(self.validations),
            "monitor": self.monitor.state(),
            "compilation": attrs.asdict(self.compilation),
            "callbacks": states,
            "stream": position,
        }
        return Checkpoint(arrays=arrays, progress=progress, about=dict(about))

    def _stream_position(self, stream: StreamDataset, arrays: dict[str, Any]) -> Any:
        """Return the position in the stream, or the positions of all processes, and add their arrays."""
        position = stream.state(self.batching.start(self.epoch, self.step))
        if stream.processes == 1:
            return callback_state.taken_apart(position, STREAM, arrays)
        own: dict[str, Any] = {}
        position = callback_state.taken_apart(position, f"{STREAM}{self._processes.index}/", own)
        for found in self._processes.gather_arrays("stream", own):
            arrays |= found
        return {"processes": self._processes.exchange("stream", position)}

    def load(self, stored: Checkpoint, *, recompile: bool = False) -> None:
        """Load the state of a checkpoint: all variables, the position in the data, the history, the best epoch.

        Call this after all initialisation of weights. `load_callbacks` follows when the run begins.

        Args:
            stored: the checkpoint, of the same model and optimizer.
            recompile: if True, choose the compilation of the loop again.

        Raises:
            TrainingError: the checkpoint is from another model, or its position does not exist in this run; nothing was
                changed.
        """
        arrays = dict(stored.arrays)
        of_callbacks = {name: arrays.pop(name) for name in list(arrays) if name.startswith(callback_state.PREFIX)}
        of_stream = {name: arrays.pop(name) for name in list(arrays) if name.startswith(STREAM)}
        try:
            progress = stored.progress
            position = self._position_of(progress)
            monitor = dict(progress["monitor"])
            compilation = Compilation(**progress["compilation"])
            history = _logs(progress["history"])
            validations = [
                {**logs, "step": int(logs["step"]), "epoch": int(logs["epoch"])}
                for logs in _logs(progress.get("validations", []))
            ]
            updates = progress.get("updates")
            updates = None if updates is None else int(updates)
            callbacks = dict(progress["callbacks"])
            seed, stopped = int(progress["seed"]), str(progress.get("stopped") or "")
            replicas = int(progress.get("replicas", self.variables.replicas))
            if not 1 <= replicas <= MOST_REPLICAS:
                raise ValueError(f"{replicas} replicas")
            stream = callback_state.put_together(progress.get("stream"), of_stream)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise TrainingError(
                f"The checkpoint's progress.json is not valid ({type(error).__name__}: {error}). "
                "Use another checkpoint."
            ) from error
        if seed != self.seed:
            raise TrainingError(
                f"The checkpoint belongs to a run with seed {seed}, but this run has seed {self.seed}. The order "
                f"of the data depends on the seed. Use --trainer.random_seed {seed}, or leave the option out."
            )
        if progress.get("accumulate_steps") != self.accumulate_steps:
            # Between two groups, there is no sum of gradients to continue: the sums of this run are already zero.
            arrays = {name: array for name, array in arrays.items() if not name.startswith(GROUP)}
            arrays |= {name: value for name, value in self.variables.read().items() if name.startswith(GROUP)}
        self._check_types(arrays)
        if position[1] and (self.stream is None) is not (stream is None):
            before, now = ("samples in memory", "a stream") if stream is None else ("a stream", "samples in memory")
            raise TrainingError(
                f"The checkpoint is within epoch {position[0] + 1}. The training samples were {before}, but now they "
                f"are {now}, in another order. Resume with the data and parameters of the run."
            )
        if self.stream is not None and stream is not None:
            try:
                self.stream.restore(stream)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise TrainingError(
                    f"The checkpoint's position in the stream is not valid ({type(error).__name__}: {error}). "
                    "Use another checkpoint."
                ) from error
        self.variables.write(arrays, replicas)
        if replicas != self.variables.replicas:
            logger.info(
                "The checkpoint is from %s, and this run has %s. Dropout and batch normalization are local to each "
                "device. All other results agree up to rounding.",
                count(replicas, "device"),
                count(self.variables.replicas, "device"),
            )
        (self.epoch, self.step), self._before = position, 0
        # Not the count of this run if the batch size or the accumulation has changed.
        self._before = 0 if updates is None else updates - self.updates
        self.history, self.validations = history, validations
        self.stopped = stopped
        self.monitor.restore(monitor)
        # XLA compiles only for one device, and the steps per call depend on the number of devices.
        self.compilation = None if recompile or replicas != self.variables.replicas else compilation
        self._callback_states = {
            name: (state, of_callbacks) for name, state in callbacks.items() if name in self.callbacks
        }

    def load_callbacks(self) -> None:
        """Restore the callbacks' states from the checkpoint, after `on_train_begin`.

        Raises:
            TrainingError: see `callback_state.set_state`.
        """
        for name, (state, arrays) in self._callback_states.items():
            callback_state.set_state(name, self.callbacks[name], state, arrays)
        self._callback_states = {}

    def _position_of(self, progress: Mapping[str, Any]) -> tuple[int, int]:
        """Return the epoch and batch at which this run continues, converted to a changed batch size."""
        epoch, step = int(progress["epoch"]), int(progress["step"])
        if epoch < 0 or step < 0:
            raise ValueError(f"epoch {epoch}, step {step}")
        before = progress.get("batching") or attrs.asdict(self.batching)
        accumulate = progress.get("accumulate_steps", self.accumulate_steps)
        if step == 0:
            return epoch, 0
        here = f"The checkpoint is within epoch {epoch + 1}, after {count(step, 'batch')}"
        if before["samples"] != self.batching.samples:
            raise TrainingError(
                f"{here}. An epoch now has {self.batching.samples:,} samples instead of {before['samples']:,}. "
                "Resume without this change until the end of an epoch, or use a checkpoint from there."
            )
        done = min(step * before["batch_size"], before["samples"])
        size = self.batching.batch_size
        if size != before["batch_size"] and done % size and done != before["samples"]:
            raise TrainingError(
                f"{here} of {before['batch_size']}. These {done:,} samples are not a whole number of batches of "
                f"{size}. Use a --train.batch_size that divides {done}, or use a checkpoint from the end of an epoch."
            )
        now = -(-done // size)
        regrouped = accumulate != self.accumulate_steps or size != before["batch_size"]
        if regrouped and step % accumulate and done != before["samples"]:
            pending = step % accumulate
            last = "last batch" if pending == 1 else f"last {count(pending, 'batch')}"
            raise TrainingError(
                f"{here}. The optimizer update of the {last} is pending, so "
                "trainer.accumulate_steps and train.batch_size cannot change here. Use a checkpoint from the end of "
                "an epoch."
            )
        return epoch, now

    def _check_types(self, arrays: Mapping[str, Any]) -> None:
        for name, variable in self.variables.variables.items():
            dtype = components(variable)[0].dtype
            wanted = getattr(dtype, "name", dtype)
            if name in arrays and arrays[name].dtype.name != wanted:
                raise TrainingError(
                    f"The saved state belongs to another model: {name} has type {arrays[name].dtype.name} in it "
                    f"and {wanted} in this model."
                )


def _logs(given: Any) -> list[dict[str, float]]:
    return [{str(key): float(value) for key, value in logs.items()} for logs in given]


def kept_best(folder: Path, monitor: Monitor) -> float | None:
    """Return the monitored value of the model in `best`, or None without a model or for another monitor.

    The value can be better than the one in the checkpoint, if the run continued after it.
    """
    try:
        recorded = read_json(folder / "aip.json")["monitor"]
        if (recorded["mode"], recorded["name"]) == (monitor.mode, monitor.name):
            return float(recorded["value"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    return None
