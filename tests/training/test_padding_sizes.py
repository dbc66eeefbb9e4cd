"""Samples of varying size under XLA: batches of a few sizes, the results of the plain graph, and exact resuming."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from aipcore.errors import TrainingError
from aipcore.scenario import Evaluator, Sample, Scenario, Stream
from aipcore.training.engine import compilation


def words(jit: str = "on", tune: str = "off", window: int = 4, batch_size: int = 8, sizes: int = 2) -> tuple[str, ...]:
    """Return the words of a run."""
    values: dict[str, Any] = {"trainer.jit_compile": jit, "trainer.tune": tune, "train.bucket_window": window}
    # XLA compiles a step with SGD in half the time of one with Adam.
    values |= {"train.batch_size": batch_size, "trainer.padding_sizes": sizes, "optimizer": "SGD"}
    pairs = values.items()
    return tuple(word for name, value in pairs for word in (f"--{name}", str(value)))


class Texts(Scenario):
    """A classifier of texts of 2 to 21 words."""

    units = 4

    def texts(self) -> list[Sample]:
        random = np.random.default_rng(0)
        texts = [random.integers(1, 30, 2 + n % 20).astype(np.int32) for n in range(100)]
        return [Sample(inputs=text, targets=np.int32(text.mean() > 15)) for text in texts]

    def train_data(self) -> Any:
        return self.texts()

    def val_data(self) -> Any:
        return self.texts()[:10]

    def embedded(self, inputs: Any) -> Any:
        return layers.Embedding(30, 6, mask_zero=True)(inputs)

    def build(self, inputs: Any) -> Any:
        return layers.Dense(2)(layers.Bidirectional(layers.LSTM(self.units))(self.embedded(inputs)))

    def losses(self) -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Pooled(Texts):
    """The same with a mean over words, which compiles faster."""

    def build(self, inputs: Any) -> Any:
        return layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Dense(8, "tanh")(self.embedded(inputs))))


class Tagged(Pooled):
    """A tag for each word, so that targets vary too. The mask of the output leaves padding out of the loss."""

    def texts(self) -> list[Sample]:
        return [Sample(inputs=each.inputs, targets=each.inputs % 2) for each in super().texts()]

    def build(self, inputs: Any) -> Any:
        return layers.Dense(2)(layers.Dense(8, "tanh")(self.embedded(inputs)))

    def metrics(self) -> Any:
        return []


class Growing(Pooled):
    """A stream whose longest texts come last."""

    def train_data(self) -> Any:
        texts = sorted(self.texts(), key=lambda each: len(each.inputs))
        return Stream(lambda: iter(texts), length=100)


class Dropped(Pooled):
    """Dropout, and statistics of the words, for which Keras uses the mask."""

    def build(self, inputs: Any) -> Any:
        hidden = layers.BatchNormalization()(layers.Dropout(0.3)(self.embedded(inputs)))
        return layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden))


class Unmasked(Pooled):
    """A mean over all positions, with padding."""

    def embedded(self, inputs: Any) -> Any:
        return layers.Embedding(30, 6)(inputs)


class TaggedMetric(Tagged):
    """The tags with Keras' accuracy, whose batches count by the inverse of their padded length."""

    def metrics(self) -> Any:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Longest(keras.metrics.Metric):
    """The sum of the padded lengths of all batches."""

    def __init__(self, name: str = "longest") -> None:
        super().__init__(name=name)
        self.total = self.add_variable((), initializer="zeros", name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(keras.ops.cast(keras.ops.shape(y_true)[1], "float32"))

    def result(self) -> Any:
        return self.total.value


class LongAndShort(Tagged):
    """Validation texts of 2, 20, 3 and 19 words, with the loss of the first tag of each."""

    def val_data(self) -> Any:
        texts = self.texts()
        return [texts[n] for n in (0, 18, 1, 17)]

    def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
        del inputs
        (target,), (output,) = targets.values(), outputs.values()
        return {"first": keras.losses.sparse_categorical_crossentropy(target[:, 0], output[:, 0], from_logits=True)}

    def metrics(self) -> Any:
        return [Longest()]


class Multiples(Pooled):
    """A model for texts whose length is a multiple of 4."""

    def texts(self) -> list[Sample]:
        texts = super().texts()
        return [
            Sample(inputs=np.resize(each.inputs, -(-len(each.inputs) // 4) * 4), targets=each.targets) for each in texts
        ]

    def embedded(self, inputs: Any) -> Any:
        groups = layers.Reshape((-1, 4))(inputs)
        return layers.Masking()(layers.Dense(6, use_bias=False)(keras.ops.cast(groups, "float32")))


def bits(trainer: Any) -> dict[str, bytes]:
    """Return all variables of a run, as bytes."""
    return {name: array.tobytes() for name, array in trainer.state.variables.read().items()}


@pytest.mark.parametrize(
    ("cls", "more"),
    [
        pytest.param(Tagged, ("--trainer.accumulate_steps", "2"), marks=pytest.mark.slow),
        (Pooled, ()),
        pytest.param(Multiples, (), marks=pytest.mark.slow),
        pytest.param(Texts, ("--optimizer.clip_global_norm", "1"), marks=pytest.mark.slow),
    ],
    ids=["accumulated", "mean", "multiples", "LSTM"],
)
def test_results_are_those_of_the_plain_graph(make_trainer: Any, cls: type[Texts], more: tuple[str, ...]) -> None:
    """Losses, metrics and weights equal those without XLA within 1e-5; XLA compiles for each size once."""
    plain, xla = (make_trainer(cls, *words(jit), *more) for jit in ("off", "on"))
    histories = [trainer.fit().history for trainer in (plain, xla)]
    for before, after in zip(*histories, strict=True):
        assert before.keys() == after.keys()
        np.testing.assert_allclose(list(after.values()), list(before.values()), rtol=1e-5)
    for weight, own in zip(plain.model.weights, xla.model.weights, strict=True):
        np.testing.assert_allclose(own.numpy(), weight.numpy(), rtol=1e-4, atol=1e-5)
    sizes = xla.state.compilation.sizes
    assert len(sizes) == 2
    assert xla.engine.loop.compilations == len(sizes)
    # One trace serves all lengths, and another one those that XLA compiles.
    assert plain.engine.loop.traces == 1
    assert xla.engine.loop.traces == 2
    assert dict(xla.plan())["padding"].startswith(f"batches are padded to {len(sizes)} sizes for XLA: ")
    assert "padding" not in dict(plain.plan())


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Growing, Dropped, Texts])
def test_resumed_within_an_epoch(make_trainer: Any, cls: type[Texts]) -> None:
    """A run that continues from a checkpoint within an epoch has the same sizes, and ends with the same bits."""
    given = words(window=0 if cls is Growing else 4)
    given += ("--checkpoint.every_steps", "5", "--checkpoint.keep", "99", "--trainer.epochs", "1")
    whole = make_trainer(cls, *given, output="whole", exports=False)
    history = whole.fit().history
    kept = sorted((whole.output_dir / "checkpoint").iterdir())
    again = make_trainer(cls, *given)
    again.restore(kept[1])
    assert again.state.step
    assert again.state.compilation == whole.state.compilation
    assert again.fit().history == history
    assert bits(again) == bits(whole)


@pytest.mark.parametrize(("cls", "what"), [(Unmasked, "the gradients"), (TaggedMetric, "metrics/.*accuracy/.*")])
def test_dependence_on_padding(make_trainer: Any, monkeypatch: pytest.MonkeyPatch, cls: type[Texts], what: str) -> None:
    """If more padding changes gradients or metrics, XLA is not used, and requesting it is an error."""
    monkeypatch.setattr(compilation, "WORTH_SECONDS", 0.0)
    trainer = make_trainer(cls, *words("auto", "auto"))
    before = bits(trainer)
    chosen = trainer.compile()
    assert re.fullmatch(rf"the samples differ in size, and more padding changes {what} by up to [\d.]+%", chosen.reason)
    assert (chosen.mode, chosen.sizes) == ("graph", ())
    assert bits(trainer) == before
    with pytest.raises(TrainingError, match=rf"for XLA: more padding changes {what} by .*Mask the padding"):
        make_trainer(cls, *words()).compile()


@pytest.mark.parametrize("cls", [Dropped, Multiples])
def test_no_dependence_on_padding(make_trainer: Any, monkeypatch: pytest.MonkeyPatch, cls: type[Texts]) -> None:
    """Masks, dropout, batch-norm statistics of masked words and lengths that are multiples of 4 allow more padding."""
    monkeypatch.setattr(compilation, "_seconds", times(1.0, 0.2, 1.0))
    trainer = make_trainer(cls, *words("auto", "auto"), "--trainer.skip_sanity_check", "true")
    before = bits(trainer)
    assert trainer.compile().mode == "xla"
    assert bits(trainer) == before


def times(plain: float, xla: float, compiling: float) -> Any:
    """Return a function for the seconds of a step, of which those under XLA are longer the first time."""
    waiting = [compiling]

    def seconds(loop: Any, block: Any, mode: str) -> float:
        del loop
        length = block.inputs[""].shape[2]
        return length * plain if mode == "graph" else length * xla + (waiting.pop() if waiting else 0.0)

    return seconds


@pytest.mark.parametrize(
    ("seconds", "sizes", "mode", "reason"),
    [
        ((1.0, 0.2, 1.0), 2, "xla", "times as fast as without XLA"),
        ((1.0, 1.5, 1.0), 2, "graph", "times as fast as XLA"),
        # XLA on batches padded to the only size, the plain graph on others.
        ((1.0, 0.95, 1.0), 1, "graph", "times as fast as XLA"),
        ((1.0, 0.2, 1e6), 2, "graph", "the run is too short to benefit from XLA"),
        ((1e-6, 1e-9, 0.0), 2, "graph", "the run is too short to benefit from XLA"),
    ],
    ids=["faster", "slower", "padding", "compilations", "short"],
)
def test_measured(
    make_trainer: Any, monkeypatch: pytest.MonkeyPatch, seconds: Any, sizes: int, mode: str, reason: str
) -> None:
    """XLA is chosen if it is faster in spite of the padding, and if the run is long enough for all compilations."""
    monkeypatch.setattr(compilation, "_seconds", times(*seconds))
    monkeypatch.setattr(compilation, "change_by_padding", lambda *_: None)
    more = ("--trainer.skip_sanity_check", "true")
    chosen = make_trainer(Pooled, *words("auto", "auto", sizes=sizes), *more).compile()
    assert chosen.mode == mode
    assert chosen.reason.endswith(reason)
    assert len(chosen.sizes) == (sizes if mode == "xla" else 0)
    assert 0 <= chosen.padding < 0.5


@pytest.mark.slow
def test_larger_samples_later(make_trainer: Any) -> None:
    """Batches that are larger than all sizes run in the plain graph, and XLA compiles no further shape."""
    plain, xla = (make_trainer(Growing, *words(jit, window=0, batch_size=4)) for jit in ("off", "on"))
    losses = [trainer.fit().history[-1]["loss"] for trainer in (plain, xla)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert xla.state.compilation.sizes[-1] < (21,)
    assert xla.engine.loop.compilations == len(xla.state.compilation.sizes)


def test_validation_in_buckets(make_trainer: Any) -> None:
    """Validation in buckets pads less, with the same loss. An evaluator gets the samples in their own order."""
    found = []
    for window in ("0", "2"):
        trainer = make_trainer(LongAndShort, "--val.bucket_window", window, "--val.batch_size", "2")
        found.append(trainer.engine.validation.run())
    assert [each["longest"] for each in found] == [20 + 19, 3 + 20]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-6)
    seen: list[int] = []

    class Seen(Evaluator):
        def update(self, targets: Any, outputs: Any, meta: Any = None) -> None:
            del targets, meta
            seen.append(next(iter(outputs.values())).shape[1])

        def result(self) -> dict[str, float]:
            return {}

    trainer.engine.validation.run(Seen())
    assert seen == [20, 19]
