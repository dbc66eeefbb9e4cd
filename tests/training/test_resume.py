"""Resuming from a checkpoint: results that are bit-identical to an uninterrupted run, and changes that are refused."""

from __future__ import annotations

import copy
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import pytest

from aipcore.errors import TrainingError
from aipcore.training.checkpoint import callback_state
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.signals import Interrupted
from aipcore.training.tensorboard.events import trim_events


def final_bits(trainer: Any) -> dict[str, bytes]:
    """Return all variables of a run, as bytes."""
    return {name: array.tobytes() for name, array in trainer.state.variables.read().items()}


@pytest.mark.parametrize("optimizer", ["AdaBelief", pytest.param("Nadam", marks=pytest.mark.slow)])
def test_restored_run_ends_in_the_same_bits(make_trainer: Any, noisy_class: Any, optimizer: str) -> None:
    """From the checkpoint of any epoch, training ends with the variables and history of the uninterrupted run."""
    words = (
        "--optimizer", optimizer, "--trainer.epochs", "3", "--checkpoint.keep", "4", "--trainer.accumulate_steps", "2",
        "--callbacks", "CSVLog", "ReduceOnPlateau", "--callbacks.ReduceOnPlateau.patience", "1",
    )  # fmt: skip
    whole = make_trainer(noisy_class, *words, output="whole", exports=False)
    history = whole.fit().history
    bits = final_bits(whole)
    assert whole.output_dir is not None
    for path in sorted((whole.output_dir / "checkpoint").iterdir())[:-1]:
        again = make_trainer(
            noisy_class, *words, "--trainer.random_seed", "7", output=f"from-{path.name}", exports=False
        )
        again.restore(path)
        assert again.fit().history == history
        assert final_bits(again) == bits
        assert (again.output_dir / "log.csv").read_text() == (whole.output_dir / "log.csv").read_text()


WORDS = (
    "--trainer.epochs", "3", "--trainer.calc_ema", "0.9", "--learning_rate", "CosineDecay", "--callbacks", "CSVLog",
    "ReduceOnPlateau", "--callbacks.ReduceOnPlateau.patience", "1", "--checkpoint.keep", "99",
)  # fmt: skip


def chunked(trainer: Any, chunk: int) -> Any:
    """Return the trainer with a fixed number of steps per call."""
    trainer.state.compilation = attrs.evolve(trainer.compile(), chunk=chunk)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("jit", ["off", "on"])
def test_chunks_only_group_steps(make_trainer: Any, noisy_class: Any, jit: str) -> None:
    """The number of steps per call and the cuts for checkpoints do not change a bit."""
    words = (*WORDS, "--trainer.accumulate_steps", "3", "--trainer.jit_compile", jit)
    runs = [
        chunked(make_trainer(noisy_class, *words, *more, output=f"{jit}-{number}", exports=False), chunk)
        for number, (chunk, more) in enumerate([(1, ()), (5, ()), (12, ()), (12, ("--checkpoint.every_steps", "7"))])
    ]
    histories = [trainer.fit().history for trainer in runs]
    assert all(history == histories[0] for history in histories)
    assert all(final_bits(trainer) == final_bits(runs[0]) for trainer in runs)


class Waiting(keras.callbacks.Callback):
    """A callback that waits after each chunk for pending saves."""

    accepts_chunks = True

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trainer._run_writer.drain()


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["--trainer.accumulate_steps", "--trainer.precision"])
def test_from_every_chunk(make_trainer: Any, noisy_class: Any, batch: str) -> None:
    """From every third batch, within epochs and groups, the resumed run is bit-identical."""
    value = {"--trainer.accumulate_steps": "2", "--trainer.precision": "float16"}[batch]
    words = (*WORDS, batch, value, "--checkpoint.every_steps", "3")
    whole = make_trainer(noisy_class, *words, output="whole", exports=False)
    whole.callbacks["wait"] = Waiting(whole)
    history = whole.fit().history
    bits, csv = final_bits(whole), (whole.output_dir / "log.csv").read_text()
    paths = sorted((whole.output_dir / "checkpoint").iterdir())
    within = [path for path in paths if read_checkpoint(path).progress["step"] % 13]
    assert len(within) == 12
    for path in (paths[0], within[5], within[-1]):
        again = make_trainer(noisy_class, *words, output=f"from-{path.name}", exports=False)
        again.restore(path)
        assert again.fit().history == history
        assert final_bits(again) == bits
        assert (again.output_dir / "log.csv").read_text() == csv


class Stopping(keras.callbacks.Callback):
    """A callback that sends this process a signal at a given point of the run."""

    accepts_chunks = True

    def __init__(self, moment: str, epoch: int) -> None:
        super().__init__()
        self.moment, self.at, self.epoch = moment, epoch, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def _stop(self, moment: str) -> None:
        if (self.moment, self.at) == (moment, self.epoch):
            self.moment = ""
            signal.raise_signal(signal.SIGTERM)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._stop("batch")

    def on_test_begin(self, logs: Any = None) -> None:
        self._stop("validation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stop("epoch")


@pytest.mark.parametrize("moment", ["batch", "validation", "epoch"])
def test_signal(make_trainer: Any, noisy_class: Any, moment: str) -> None:
    """After a signal within an epoch, before its validation or at its end, the resumed run is bit-identical."""
    words = (*WORDS, "--checkpoint.every_steps", "100")
    whole = chunked(make_trainer(noisy_class, *words, output="whole", exports=moment == "epoch"), 5)
    history = whole.fit().history

    stopped = chunked(make_trainer(noisy_class, *words, output="stopped", exports=moment == "epoch"), 5)
    stopped.callbacks["stop"] = Stopping(moment, 1)
    result = stopped.fit()
    assert (result.status, result.signal) == ("interrupted", signal.SIGTERM)
    assert not (stopped.output_dir / "export").exists()
    path = newest_checkpoint(stopped.output_dir / "checkpoint")
    progress = read_checkpoint(path).progress
    expected = {"batch": (1, 5), "validation": (1, 13), "epoch": (2, 0)}[moment]
    assert (progress["epoch"], progress["step"]) == expected
    assert (result.epochs, len(result.history)) == (expected[0], expected[0])

    again = make_trainer(noisy_class, *words, output="stopped", exports=moment == "epoch")
    again.restore(path)
    assert again.fit().history == history
    assert final_bits(again) == final_bits(whole)
    assert (again.output_dir / "log.csv").read_text() == (whole.output_dir / "log.csv").read_text()


def test_signal_while_compiling(make_trainer: Any, blobs_class: Any, monkeypatch: Any) -> None:
    """A signal during compilation ends the run immediately, without a checkpoint because no step was computed."""
    trainer = make_trainer(blobs_class, output="out")

    def compile_slowly() -> None:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(trainer, "compile", compile_slowly)
    result = trainer.fit()
    assert (result.status, result.signal, result.saved) == ("interrupted", signal.SIGINT, [])


def test_second_signal(make_trainer: Any, blobs_class: Any) -> None:
    """A second signal ends the run immediately."""

    class Twice(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer = make_trainer(blobs_class, output="out")
    trainer.callbacks["twice"] = Twice()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_interrupted_is_not_an_exception() -> None:
    """Code that catches `Exception` does not swallow the interruption."""
    assert not issubclass(Interrupted, Exception)


INTERRUPTED: list[Any] = []


@pytest.fixture
def interrupted(make_trainer: Any, noisy_class: Any) -> tuple[Any, Any]:
    """Return a checkpoint within an epoch, after batch 5 of 13 at 16 samples, and the class of its scenario.

    One run serves all tests, each with a copy of its progress.
    """
    if INTERRUPTED:
        (stored,) = INTERRUPTED
        return attrs.evolve(stored, progress=copy.deepcopy(stored.progress)), noisy_class
    trainer = chunked(make_trainer(noisy_class, "--trainer.accumulate_steps", "2", output="first", exports=False), 5)
    trainer.callbacks["stop"] = Stopping("batch", 1)
    trainer.fit()
    INTERRUPTED.append(read_checkpoint(newest_checkpoint(trainer.output_dir / "checkpoint")))
    return copy.deepcopy(INTERRUPTED[0]), noisy_class


ACCUMULATE = ("--trainer.accumulate_steps", "2")


@pytest.mark.parametrize(
    "words",
    [
        (*ACCUMULATE, "--trainer.random_seed", "8"),
        (*ACCUMULATE, "--trainer.samples_per_epoch", "150"),
        (*ACCUMULATE, "--train.batch_size", "32"),
        ("--trainer.accumulate_steps", "4"),
        (*ACCUMULATE, "--optimizer", "SGD"),
        (*ACCUMULATE, "--trainer.calc_ema", "0.9"),
    ],
)
def test_what_cannot_go_on(make_trainer: Any, interrupted: Any, words: tuple[str, ...], refused: Any) -> None:
    """A change that does not fit the position or the state is refused before any state is assigned."""
    stored, cls = interrupted
    trainer = make_trainer(cls, *words, output="second")
    before = final_bits(trainer)
    with refused(TrainingError):
        trainer.restore(stored)
    assert final_bits(trainer) == before
    assert (trainer.state.epoch, trainer.state.step, trainer.state.history) == (0, 0, [])


def test_hostile_state(make_trainer: Any, interrupted: Any, refused: Any) -> None:
    """State of other shapes or types and malformed progress are refused before any state is assigned."""
    stored, cls = interrupted
    trainer = make_trainer(cls, *ACCUMULATE)
    before = final_bits(trainer)
    name = "model/dense/kernel"
    for array in (np.zeros((2, 2), np.float32), np.zeros((12, 16))):
        with refused(TrainingError):
            trainer.restore(attrs.evolve(stored, arrays={**stored.arrays, name: array}))
    for change in ({"epoch": "x"}, {"epoch": -1}, {"monitor": 3}, {"history": [3]}, {"compilation": {"evil": 1}}):
        with refused(TrainingError):
            trainer.restore(attrs.evolve(stored, progress={**stored.progress, **change}))
    assert final_bits(trainer) == before


@pytest.mark.parametrize(
    "words", [(*ACCUMULATE, "--train.batch_size", "8"), (*ACCUMULATE, "--learning_rate", "Constant")]
)
def test_allowed_changes(make_trainer: Any, interrupted: Any, words: tuple[str, ...]) -> None:
    """A batch size that divides the position and another schedule are accepted; each sample is still used once."""
    stored, cls = interrupted
    stored.progress["step"] = 4
    trainer = make_trainer(cls, *words, output="second")
    trainer.restore(stored)
    assert trainer.state.step * trainer.data.batching.batch_size == 64
    result = trainer.fit()
    assert (result.status, result.epochs) == ("finished", 2)


@pytest.mark.slow
def test_other_groups_between_epochs(make_trainer: Any, noisy_class: Any) -> None:
    """Between epochs, the number of batches in a group can change, also to and from one."""
    first = make_trainer(noisy_class, "--trainer.epochs", "1", output="first", exports=False)
    first.fit()
    path = newest_checkpoint(first.output_dir / "checkpoint")
    for steps in ("1", "3"):
        words = ("--trainer.accumulate_steps", steps)
        trainer = make_trainer(noisy_class, *words, output=f"second-{steps}", exports=False)
        trainer.restore(path)
        assert trainer.fit().epochs == 2


def test_best_is_not_overwritten_by_a_worse_one(make_trainer: Any, noisy_class: Any) -> None:
    """`best` stays unchanged if a run is resumed from before the best epoch and does not improve."""
    words = ("--trainer.epochs", "4", "--checkpoint.keep", "9")
    first = make_trainer(noisy_class, *words, "--learning_rate.lr", "0.01", output="out")
    result = first.fit()
    assert result.best_epoch > 2
    recorded = (first.output_dir / "best" / "aip.json").read_text()
    assert json.loads(recorded)["monitor"]["value"] == result.best
    path = sorted((first.output_dir / "checkpoint").iterdir())[1]
    again = make_trainer(noisy_class, *words, "--learning_rate.lr", "1e-5", output="out")
    again.restore(path)
    assert again.fit().best < result.best
    assert (first.output_dir / "best" / "aip.json").read_text() == recorded


def keras_parts(make_trainer: Any, cls: Any, folder: Path, output: str) -> Any:
    """Return a trainer with callbacks of Keras, as a plugin might create them."""
    trainer = make_trainer(cls, "--trainer.epochs", "6", "--checkpoint.keep", "9", output=output, exports=False)
    trainer.callbacks.update(
        stop=keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True, min_delta=0.2),
        log=keras.callbacks.CSVLogger(str(folder / f"{output}.csv")),
    )
    return trainer


def test_keras_callbacks(make_trainer: Any, noisy_class: Any, tmp_path: Path) -> None:
    """Keras' EarlyStopping, with its best weights, and CSVLogger resume correctly."""
    whole = keras_parts(make_trainer, noisy_class, tmp_path, "whole")
    history = whole.fit().history
    assert 3 <= len(history) < 6
    for path in sorted((whole.output_dir / "checkpoint").iterdir())[1:-1:2]:
        again = keras_parts(make_trainer, noisy_class, tmp_path, f"from-{path.name}")
        again.restore(path)
        assert again.fit().history == history
        assert final_bits(again) == final_bits(whole)
        assert (tmp_path / f"from-{path.name}.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_state_of_callbacks(refused: Any) -> None:
    """JSON values and arrays are restored; other state is an error that names the callback."""

    class Mine(keras.callbacks.Callback):
        def get_state(self) -> Any:
            return self.kept

        def set_state(self, state: Any) -> None:
            self.kept = state

    callback = Mine()
    callback.kept = {"a": [1, None, "x", 0.1], "b": np.arange(3, dtype=np.int8), "c": np.float32(2)}
    state, arrays = callback_state.get_state("Mine", callback)
    json.dumps(state)
    other = Mine()
    callback_state.set_state("Mine", other, json.loads(json.dumps(state)), arrays)
    assert other.kept["a"] == [1, None, "x", 0.1]
    assert other.kept["b"].tolist() == [0, 1, 2]
    assert (other.kept["c"], other.kept["c"].dtype) == (2, np.float32)
    for wrong in (print, {1: 2}, {"x": {1, 2}}, np.array([print])):
        callback.kept = wrong
        with refused(TrainingError):
            callback_state.get_state("Mine", callback)


def curve(folder: Path, tag: str = "loss") -> list[tuple[int, float]]:
    """Return the points that TensorBoard's own reader finds in the part `train`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder / "train"))
    events.Reload()
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


def test_curves_have_no_double_points(tmp_path: Path) -> None:
    """Points of later epochs are removed and earlier ones kept, whatever the clock and the moment of a kill."""
    from aipcore.training.tensorboard.events import EventWriter

    writer = EventWriter(tmp_path)
    for epoch in (1, 2, 3):
        writer.write("train", epoch, {"loss": epoch / 2})
    writer.close()
    (old,) = (tmp_path / "train").iterdir()
    # Simulates a clock that was set back, and a truncated last write.
    old.rename(old.with_name(old.name.replace("tfevents.1", "tfevents.9")))
    (old,) = (tmp_path / "train").iterdir()
    copy = tmp_path / "copy"
    with old.open("ab") as file:
        file.write(b"\x12\x00\x00")
    shutil.copy(old, copy)
    trim_events(tmp_path, 2)
    assert curve(tmp_path) == [(1, 0.5), (2, 1.0)]
    # Simulates a kill before the old file was removed.
    shutil.copy(copy, old)
    trim_events(tmp_path, 2)
    assert curve(tmp_path) == [(1, 0.5), (2, 1.0)]
    writer = EventWriter(tmp_path)
    writer.write("train", 3, {"loss": 9.0})
    writer.close()
    assert curve(tmp_path) == [(1, 0.5), (2, 1.0), (3, 9.0)]
    trim_events(tmp_path, 0)
    assert list((tmp_path / "train").iterdir()) == []
    trim_events(tmp_path / "nothing", 2)


@pytest.fixture
def unwritable() -> Iterator[Any]:
    """Yield a function that limits the size of all files of this process; the limit is removed at the end."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Filling(keras.callbacks.Callback):
    """A callback that fills the disk in the second epoch."""

    def __init__(self, trainer: Any, fill: Any) -> None:
        super().__init__()
        self.trainer, self.fill = trainer, fill

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self.trainer._run_writer.drain()
            self.fill()


def test_full_disk_ends_the_run(make_trainer: Any, blobs_class: Any, unwritable: Any, refused: Any) -> None:
    """With `raise`, the run ends with the error, and earlier checkpoints stay."""
    trainer = make_trainer(blobs_class, "--trainer.epochs", "4", "--trainer.export_best", "False", output="out")
    trainer.callbacks["fill"] = Filling(trainer, unwritable)
    with refused(TrainingError):
        trainer.fit()
    assert read_checkpoint(newest_checkpoint(trainer.output_dir / "checkpoint")).progress["epoch"] == 1


def test_full_disk_is_a_warning(make_trainer: Any, blobs_class: Any, unwritable: Any) -> None:
    """With `warn`, the run finishes and warns about the missing checkpoints."""
    from aipcore.training.reporter import Reporter

    class Listening(Reporter):
        said: list[str] = []  # noqa: RUF012

        def warning(self, text: str) -> None:
            self.said.append(text)

    words = ("--trainer.epochs", "4", "--checkpoint.on_error", "warn")
    trainer = make_trainer(blobs_class, *words, output="out", reporter=Listening())
    trainer.callbacks["fill"] = Filling(trainer, unwritable)
    assert trainer.fit().status == "finished"
    assert any("checkpoint" in text and "Training continues" in text for text in Listening.said)
    assert read_checkpoint(newest_checkpoint(trainer.output_dir / "checkpoint")).progress["epoch"] == 1


def test_deterministic(make_trainer: Any, blobs_class: Any) -> None:
    """`trainer.deterministic` enables deterministic operations in TensorFlow."""
    from tensorflow.python.framework import config

    assert not config.is_op_determinism_enabled()
    try:
        make_trainer(blobs_class, "--trainer.deterministic", "True")
        assert config.is_op_determinism_enabled()
    finally:
        config.disable_op_determinism()


def test_other_model_is_refused(make_trainer: Any, blobs_class: Any, noisy_class: Any, refused: Any) -> None:
    """State of another model is refused before any state is assigned."""
    first = make_trainer(blobs_class, "--trainer.epochs", "1", output="first", exports=False)
    first.fit()
    second = make_trainer(noisy_class, output="second", exports=False)
    before = final_bits(second)
    with refused(TrainingError):
        second.restore(newest_checkpoint(first.output_dir / "checkpoint"))
    assert final_bits(second) == before
