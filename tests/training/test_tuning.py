"""Compilation of a run: measured or fixed, recorded, and traced once for any number of epochs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.errors import TrainingError
from aipcore.scenario import Evaluator, Sample, Scenario
from aipcore.training import stored_run
from aipcore.training.engine import compilation

OFF = ("--trainer.tune", "off")


class Counted(Scenario):
    """A scenario that counts the traces of its loss."""

    monitor = ("min", "val_loss")
    traced = 0

    def train_data(self) -> Any:
        x = np.random.default_rng(3).normal(size=(90, 5)).astype(np.float32)
        return x, x.sum(axis=1, keepdims=True)

    def val_data(self) -> Any:
        x, y = self.train_data()
        return x[:21], y[:21]

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(keras.layers.Dropout(0.1)(keras.layers.Dense(4)(inputs)))

    def losses(self) -> Any:
        def squared(targets: Any, outputs: Any) -> Any:
            Counted.traced += tf.inside_function()
            return tf.reduce_mean(tf.square(outputs - targets), axis=-1)

        return squared

    def evaluator(self) -> Any:
        class Nothing(Evaluator):
            def update(self, targets: Any, outputs: Any, meta: Any = None) -> None:
                """Ignore the batch."""

            def result(self) -> Any:
                return {"nothing": 0.0}

        return Nothing()


class CountedBuckets(Counted):
    """A scenario with samples of 2 to 9 rows in batches sorted by length, which gives many shapes."""

    def train_data(self) -> Any:
        generator = np.random.default_rng(3)
        rows = [generator.normal(size=(2 + n % 8, 5)).astype(np.float32) for n in range(90)]
        return [Sample(inputs=row, targets=row.sum(keepdims=True)[0]) for row in rows]

    def val_data(self) -> Any:
        return self.train_data()[:21]

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(inputs))


@pytest.mark.parametrize(
    ("cls", "words", "expected"),
    [
        (Counted, ("--trainer.jit_compile", "off"), 3),
        # XLA compiles a separate trace, and the partial last batch runs in the plain graph.
        (Counted, ("--trainer.jit_compile", "on"), 4),
        pytest.param(
            Counted, ("--trainer.accumulate_steps", "2", "--trainer.jit_compile", "off"), 3, marks=pytest.mark.slow
        ),
        (CountedBuckets, ("--train.bucket_window", "3"), 3),
    ],
    ids=["graph", "XLA", "accumulated", "buckets"],
)
def test_each_part_is_traced_once(
    make_trainer: Any, monkeypatch: pytest.MonkeyPatch, cls: type[Counted], words: tuple[str, ...], expected: int
) -> None:
    """Training, validation and LAV have one trace each, for all partial batches, chunks, shapes, epochs and resumes."""
    words = ("--train.batch_size", "8", "--trainer.calc_ema", "0.9", "--trainer.lav_every_n", "2", *OFF, *words)
    monkeypatch.setattr(compilation, "FIXED_CHUNK", 4)
    Counted.traced = 0
    whole = make_trainer(cls, *words, "--trainer.epochs", "5", "--checkpoint.keep", "9", output="whole", exports=False)
    assert Counted.traced == 0
    whole.fit()
    assert Counted.traced == expected
    again = make_trainer(cls, *words, "--trainer.epochs", "5")
    again.restore(sorted((whole.output_dir / "checkpoint").iterdir())[2])
    Counted.traced = 0
    assert again.fit().history == whole.state.history
    assert (again.state.epoch, Counted.traced) == (5, expected)


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (("--train.batch_size", "16"), "12 steps per call, 1 for the last batch"),
        (("--train.batch_size", "20"), "10 steps per call"),
        (("--train.batch_size", "150"), "1 step per call"),
        (("--train.batch_size", "256"), "1 step per call"),
        (("--train.batch_size", "16", "--checkpoint.every_steps", "5"), "5 steps per call"),
    ],
)
def test_steps_per_call(make_trainer: Any, blobs_class: Any, words: tuple[str, ...], calls: str) -> None:
    """The plan shows the batches of a call: 200 samples in full batches, and one call for a smaller last batch."""
    trainer = make_trainer(blobs_class, *OFF, *words)
    trainer.state.compilation = trainer.compile()
    assert dict(trainer.plan())["loop"].endswith(f", {calls}")


def test_off_runs_nothing_beforehand(make_trainer: Any, blobs_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is computed to choose; plan and checkpoint record the choice, and resuming uses the same."""
    trainer = make_trainer(blobs_class, *OFF, "--train.batch_size", "4", output="run", exports=False)
    trainer.fit()
    assert trainer.engine.loop.traces == 1
    fixed = compilation.Compilation(mode="graph", chunk=16, reason="trainer.tune off")
    assert trainer.state.compilation == fixed
    assert dict(trainer.plan())["loop"] == "TensorFlow graph (trainer.tune off), 16 steps per call"
    monkeypatch.setattr(compilation, "FIXED_CHUNK", 5)
    again = make_trainer(blobs_class, *OFF, "--train.batch_size", "4", "--trainer.epochs", "3")
    again.restore(sorted((trainer.output_dir / "checkpoint").iterdir())[-1])
    again.fit()
    assert again.state.compilation == fixed
    assert "trainer.tune" in stored_run.RECOMPILE


def test_off_leaves_the_traces_to_the_run(make_trainer: Any, blobs_class: Any) -> None:
    """Choosing causes no trace; measuring does."""
    traces = {}
    for tune in ("off", "auto"):
        trainer = make_trainer(blobs_class, "--trainer.tune", tune)
        trainer.compile()
        traces[tune] = trainer.engine.loop.traces
    assert traces == {"off": 0, "auto": 1}


def test_off_takes_fewer_large_batches(make_trainer: Any, blobs_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit in bytes bounds the number: 4 samples of 12 float32 and one int32 are 208 bytes."""
    monkeypatch.setattr(compilation, "CHUNK_BYTES", 700)
    monkeypatch.setattr("aipcore.data.device_cache.MOST_BYTES", 0)
    trainer = make_trainer(blobs_class, *OFF, "--train.batch_size", "4")
    assert trainer.compile().chunk == 3
    assert make_trainer(blobs_class, *OFF, "--train.batch_size", "100").compile().chunk == 1


def test_measured_and_fixed_are_the_same_run(make_trainer: Any, noisy_class: Any) -> None:
    """Neither the number of steps per call nor measuring changes a bit."""
    words = ("--train.batch_size", "8")
    histories = [make_trainer(noisy_class, "--trainer.tune", tune, *words).fit().history for tune in ("auto", "off")]
    assert histories[0] == histories[1]


class Unsupported(Counted):
    """A scenario that XLA cannot compile: its loss has an operation with a CPU kernel only."""

    def losses(self) -> Any:
        def squared(targets: Any, outputs: Any) -> Any:
            text = tf.strings.length(tf.strings.as_string(outputs[0, 0]))
            return tf.reduce_mean(tf.square(outputs - targets), axis=-1) + 0.0 * tf.cast(text, tf.float32)

        return squared


@pytest.mark.parametrize("tune", ["off", "auto"])
def test_xla_that_cannot_be_is_an_error(make_trainer: Any, tune: str, refused: Any) -> None:
    """Requesting XLA for a model that it cannot compile is an error of one sentence."""
    trainer = make_trainer(Unsupported, "--trainer.tune", tune, "--trainer.jit_compile", "on")
    with refused(TrainingError):
        trainer.compile()


def test_auto_without_xla(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, a model that XLA cannot compile runs as a plain graph."""
    monkeypatch.setattr(compilation, "WORTH_SECONDS", 0.0)
    chosen = make_trainer(Unsupported, "--trainer.tune", "auto", "--trainer.jit_compile", "auto").compile()
    assert (chosen.mode, chosen.reason) == ("graph", "XLA cannot compile this model")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Detected unsupported operations when trying to compile graph while_body_1_const_0[] on XLA_GPU_JIT: "
            "CudnnRNNV3 (No registered 'CudnnRNNV3' OpKernel for XLA_GPU_JIT devices compatible with node {{node "
            "while/lstm/CudnnRNNV3}}){{node while/lstm/CudnnRNNV3}}\n\t (OpKernel was found, but not for it)",
            "XLA cannot compile this model, because it does not support CudnnRNNV3",
        ),
        (
            "MaxPool gradient ops do not yet have a deterministic XLA implementation.\n\n\t {{node while/x}}",
            "XLA cannot compile this model (MaxPool gradient ops do not yet have a deterministic XLA implementation)",
        ),
    ],
)
def test_messages_of_xla(message: str, expected: str) -> None:
    """A message of XLA for a GPU becomes one line without names of nodes."""
    assert compilation._xla_fault(message) == expected


def test_off_with_xla(make_trainer: Any, blobs_class: Any) -> None:
    """XLA can be requested without measuring, and choosing does not change the state."""
    trainer = make_trainer(blobs_class, *OFF, "--trainer.jit_compile", "on", "--train.batch_size", "4")
    before = trainer.state.variables.read()
    chosen = trainer.compile()
    assert (chosen.mode, chosen.chunk) == ("xla", 16)
    assert chosen.reason == "trainer.jit_compile on, trainer.tune off"
    for name, value in trainer.state.variables.read().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
