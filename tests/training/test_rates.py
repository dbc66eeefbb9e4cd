"""Factors on the learning rate by path, and phases: against Keras, closed forms and uninterrupted runs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from small_scenarios import Blobs, Pair, Weight, blobs

from aipcore.errors import AipError, ParamsError
from aipcore.scenario.paths import layers_by_path
from aipcore.training.engine.rates import find_phases, is_rule, parse_rule

X, LABELS = blobs(50, 1)


class Tuned(Blobs):
    """A scenario with a nested model that has batch normalisation and regularizers, and a head."""

    def train_data(self) -> Any:
        return X, LABELS

    def val_data(self) -> Any:
        return X[:20], LABELS[:20]

    def build(self, inputs: Any) -> Any:
        layers = keras.layers
        inner = [
            layers.Dense(8, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.1), name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(8, activation="relu", name="second"),
        ]
        return layers.Dense(4, name="head")(keras.Sequential(inner, name="encoder")(inputs))


WORDS = (
    "--train.shuffle", "false", "--val.batch_size", "20", "--trainer.tune", "off", "--learning_rate", "Constant",
    "--learning_rate.lr", "0.01",
)  # fmt: skip
FREEZE = ("--trainer.rates", "encoder/.*=0", "encoder/.*@3=1")


def variables(trainer: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of the variables of a run by name."""
    return {name: value for name, value in trainer.state.variables.read().items() if name.startswith(prefix)}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of the variables that differ in any bit."""
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def cloned(trainer: Any) -> Any:
    """Return a copy of the model of a trainer, with its weights."""
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    return model


def test_equals_two_runs_of_keras(make_trainer: Any) -> None:
    """Two phases have the losses, weights and optimizer state of two fits with one optimizer and `trainable` switched.

    Keras accepts the same optimizer in the second phase only if it was built with the weights of both phases.
    """
    trainer = make_trainer(
        Tuned, *WORDS, *FREEZE, "--trainer.epochs", "4", "--optimizer.weight_decay", "0.1",
        "--optimizer.clip_global_norm", "0.5", "--train.batch_size", "16",
    )  # fmt: skip
    model = cloned(trainer)
    optimizer = keras.optimizers.Adam(0.01, weight_decay=0.1, global_clipnorm=0.5)
    optimizer.build(model.trainable_variables)
    encoder, history = model.get_layer("encoder"), []
    for trainable in (False, True):
        encoder.trainable = trainable
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        validation = {"validation_data": (X[:20], LABELS[:20]), "validation_batch_size": 20}
        logs = model.fit(X, LABELS, batch_size=16, epochs=2, shuffle=False, verbose=0, **validation).history
        history += [dict(zip(logs, values, strict=True)) for values in zip(*logs.values(), strict=True)]
    before = variables(trainer, "model/encoder")
    found = trainer.fit().history
    for ours, theirs in zip(found, history, strict=True):
        assert [ours["loss"], ours["val_loss"]] == pytest.approx([theirs["loss"], theirs["val_loss"]], rel=1e-6)
    for ours, theirs in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for name in ("_momentums", "_velocities"):
        for ours, theirs in zip(getattr(trainer.engine.optimizer, name), getattr(optimizer, name), strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)
    assert changed(before, variables(trainer, "model/encoder")) == set(before)
    assert trainer.engine.loop.traces == 2


@pytest.mark.parametrize(
    "optimizer",
    ["Adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SGD", "AdamW", "AdaBelief", "LAMB", "Muon"))],
)
def test_equals_one_optimizer_per_rate(make_trainer: Any, optimizer: str) -> None:
    """Factors on updates and decay have the effect of separate optimizers with other rates; nothing is traced again."""
    words = ("--optimizer", optimizer, "--optimizer.weight_decay", "0.1", "--trainer.epochs", "3", "--train.batch_size")
    rates = ("--trainer.rates", "encoder=0.25", "encoder/.*@2=0.5", "head/bias=2", "head/bias@3=3")
    trainer = make_trainer(Tuned, *WORDS, *words, "25", *rates)
    model = cloned(trainer)
    weights = dict(zip((each.path for each in trainer.engine.phases.trained), model.trainable_variables, strict=True))
    groups = [[each for path, each in weights.items() if path.startswith("encoder")], [weights["head/bias"]],
              [weights["head/kernel"]]]  # fmt: skip
    made = type(trainer.engine.optimizer)
    config = {**trainer.engine.optimizer.get_config(), "learning_rate": 0.01}
    optimizers = [made.from_config(dict(config)) for _ in groups]
    for each, group in zip(optimizers, groups, strict=True):
        each.build(group)
    for factors in ((0.25, 2, 1), (0.5, 2, 1), (0.5, 3, 1)):
        for each, factor in zip(optimizers, factors, strict=True):
            each.learning_rate = 0.01 * factor
        for part in (slice(25), slice(25, 50)):
            gradients = dict(zip(map(id, model.trainable_variables), gradients_of(model, part), strict=True))
            for each, group in zip(optimizers, groups, strict=True):
                each.apply([gradients[id(weight)] for weight in group], group)
    trainer.fit()
    for ours, theirs in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    assert trainer.engine.loop.traces == 1


def gradients_of(model: Any, part: slice) -> list[Any]:
    """Return the gradients of the loss of some samples, of all trainable weights."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(X[part], training=True)
        losses = keras.losses.sparse_categorical_crossentropy(LABELS[part], outputs, from_logits=True)
        loss = tf.reduce_mean(losses) + sum(model.losses)
    gradients: list[Any] = tape.gradient(loss, model.trainable_variables)
    return gradients


@pytest.mark.parametrize("jit", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_from_an_update_on(make_trainer: Any, jit: str) -> None:
    """Each update multiplies the weight by 1 - 2 rate factor x^2, with the factor of that update, within epochs too."""
    words = ("--train.shuffle", "false", "--train.batch_size", "1", "--optimizer", "SGD", "--learning_rate", "Constant")
    rates = ("--trainer.rates", ".*@3u=0.5", "dense.*@8u=0.25")
    trainer = make_trainer(Weight, *words, "--learning_rate.lr", "0.001", "--trainer.jit_compile", jit, *rates)
    trainer.fit()
    factors = [1] * 2 + [0.5] * 5 + [0.25] * 3
    expected = np.prod([1 - 2e-3 * factor * x**2 for factor, x in zip(factors, [*Weight.x] * 2, strict=True)])
    assert float(trainer.model.get_weights()[0].item()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_factor_on_an_assigned_rate(make_trainer: Any) -> None:
    """A rate that a callback assigns is multiplied by the factors, and is logged without them."""
    words = ("--train.shuffle", "false", "--train.batch_size", "1", "--optimizer", "SGD", "--learning_rate", "Constant")
    trainer = make_trainer(Weight, *words, "--trainer.rates", ".*@3u=0.5")
    trainer.callbacks["rate"] = keras.callbacks.LearningRateScheduler(lambda epoch: 0.002 if epoch else 0.001)
    history = trainer.fit().history
    rates = [0.001] * 2 + [0.0005] * 3 + [0.001] * 5
    expected = np.prod([1 - 2 * rate * x**2 for rate, x in zip(rates, [*Weight.x] * 2, strict=True)])
    assert float(trainer.model.get_weights()[0].item()) == pytest.approx(expected, rel=1e-6)
    assert [logs["learning_rate"] for logs in history] == pytest.approx([0.001, 0.002])


@pytest.mark.slow
def test_updates_of_several_batches(make_trainer: Any) -> None:
    """With groups of batches, `@2u` starts with the group of the second update; frozen weights keep every bit."""
    words = (*WORDS, "--train.batch_size", "10", "--trainer.accumulate_steps", "2", "--trainer.epochs", "1")
    rates = ("--trainer.rates", "head=0", "encoder/(first|norm)@2u=0", "head@3u=1")
    trainer = make_trainer(Tuned, *words, *rates)
    assert [phase.start for phase in trainer.engine.phases.all] == [(0, 0), (0, 2), (0, 4)]
    before, ends = variables(trainer, "model"), []
    after_batch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: ends.append(variables(trainer, "model"))
    )
    trainer.callbacks["ends"] = after_batch
    trainer._per_batch.append("ends")
    trainer.fit()
    assert len(ends) == 5
    statistics = {name for name in before if "moving" in name}
    inner = {name for name in before if "encoder" in name and name.endswith("kernel")}
    assert changed(before, ends[0]) == statistics
    assert inner < changed(ends[0], ends[1])
    assert "model/head/kernel" not in changed(ends[0], ends[1])
    assert changed(ends[1], ends[3]) == {name for name in before if "second" in name}
    assert {name for name in changed(ends[3], ends[4]) if "kernel" in name} == {
        "model/head/kernel", "model/encoder/second/kernel",
    }  # fmt: skip


RESUMED = (
    "--trainer.epochs", "5", "--trainer.calc_ema", "0.9", "--trainer.ema_batch_norm", "true", "--trainer.tune", "off",
    "--checkpoint.every_steps", "3", "--checkpoint.keep", "99", "--optimizer.clip_global_norm", "0.5",
    "--learning_rate", "CosineDecay", "--train.batch_size", "16", "--trainer.rates",
)  # fmt: skip


def test_resumes_within_and_across_phases(make_trainer: Any) -> None:
    """A run resumed from any phase is bit-identical, and frozen weights and their averages keep every bit.

    Factors and starts may change, but not the set of weights that ever train.
    """
    rates = (*FREEZE[1:], "encoder/.*@4=0.1", "head/.*@14u=0.5")
    whole = make_trainer(Tuned, *RESUMED, *rates, output="whole", exports=False)
    before = variables(whole)
    history = whole.fit().history
    expected, folder = variables(whole), whole.output_dir / "checkpoint"
    found = sorted(folder.iterdir())
    again = make_trainer(Tuned, *RESUMED, *rates, exports=False)
    # The middle of the first phase, its end, and the middle of the last one.
    for number in (1, 4, len(found) - 2):
        again.restore(found[number])
        if again.state.epoch < 2:
            kept = {name for name in before if "/encoder/" in name and name.startswith(("model/", "ema/"))}
            assert len(kept) == 14
            assert not changed(before, variables(again)) & kept
        assert again.fit().history == history
        assert changed(expected, variables(again)) == set()
    # Returning to an earlier phase needs no new trace.
    assert again.engine.loop.traces == 2
    make_trainer(Tuned, *RESUMED, "encoder/.*@2=0.3", "encoder/first@3=0", exports=False).restore(found[-1])
    with pytest.raises(AipError, match="another model or optimizer"):
        make_trainer(Tuned, *RESUMED, "encoder/.*=0", exports=False).restore(found[-1])


@pytest.mark.slow
def test_factor_0_is_no_train_scope(make_trainer: Any) -> None:
    """Weights frozen in the whole run have no optimizer state, and everything equals `no_train_scope`."""
    runs = [make_trainer(Tuned, *WORDS, *words) for words in (
        ("--trainer.no_train_scope", "encoder"), ("--trainer.rates", "encoder=0", "head=1"),
    )]  # fmt: skip
    histories = [run.fit().history for run in runs]
    assert histories[0] == histories[1]
    states = [variables(run) for run in runs]
    assert states[0].keys() == states[1].keys()
    assert changed(*states) == set()
    assert not any("encoder" in name for name in states[1] if name.startswith("optimizer/"))


def test_plan(make_trainer: Any) -> None:
    """Each phase has an aligned row with its start, its trained weights, and the rules that apply."""
    rates = ("encoder=0", "encoder/first@2=0.1", ".*@1,000=1".replace(",", ""))
    trainer = make_trainer(Tuned, *WORDS, "--trainer.rates", *rates)
    trainer.state.compilation = trainer.compile()
    plan = trainer.plan()
    assert [row for row in plan if row[0].startswith("phase")] == [
        ("phase 1", "from epoch 1                              36 weights train  encoder=0"),
        ("phase 2", "from epoch 2                             132 weights train  encoder=0 encoder/first=0.1"),
        ("phase 3", "from epoch 1,000 (after the last epoch)  220 weights train  .*=1"),
    ]
    assert "220 trainable weights" in dict(plan)["model"]


class Partial(Tuned):
    """A scenario whose model freezes a layer itself, and has a layer of statistics only."""

    def build(self, inputs: Any) -> Any:
        layers = keras.layers
        inner = [layers.Dense(3, name="own"), layers.BatchNormalization(center=False, scale=False, name="norm"),
                 layers.Dropout(0.1, name="drop")]  # fmt: skip
        hidden = keras.Sequential(inner, name="encoder")(inputs)
        fixed = layers.Dense(3, name="fixed")
        fixed.trainable = False
        return layers.Dense(4, name="head")(fixed(hidden))


def test_frozen_layers() -> None:
    """A layer is frozen if all its weights are; one without trained weights, by its own path."""
    inputs = keras.Input((12,))
    model = keras.Model(inputs, Partial.build(None, inputs))  # type: ignore[arg-type]
    layers = [(path.rpartition("/")[2], bool(layer.weights)) for path, layer in layers_by_path(model)]

    def frozen(*rules: str) -> set[str]:
        phases = find_phases(model, rules, updates_per_epoch=1, accumulate_steps=1)
        return {
            name
            for (name, has_weights), trainable in zip(layers, phases[-1].layers, strict=True)
            if has_weights and not trainable
        }

    assert frozen("head=1") == {"fixed"}
    assert frozen("encoder/own/.*=0") == {"fixed", "own"}
    assert frozen("encoder/own/kernel=0") == {"fixed"}
    assert frozen("encoder/norm=0") == {"fixed", "norm"}
    assert frozen("encoder=0") == frozen("encoder/.*=0") == {"fixed", "encoder", "own", "norm"}
    assert frozen("encoder=0", "encoder/norm@2=1") == {"fixed", "own"}
    assert frozen(".*=0", "head/bias=1") == {"fixed", "encoder", "own", "norm"}
    assert all(layer.trainable for layer in model.layers if layer.name != "fixed")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a=0", ("a", 0, 1, "epoch")),
        ("a/.*@12=1e-2", ("a/.*", 0.01, 12, "epoch")),
        ("(?=a).*@500u=2", ("(?=a).*", 2, 500, "update")),
        ("a@b@3=1", ("a@b", 1, 3, "epoch")),
    ],
)
def test_rules(text: str, parts: tuple[Any, ...]) -> None:
    """The factor follows the last `=`, and the start the last `@`."""
    rule = parse_rule(text)
    assert (rule.pattern, rule.factor, rule.start, rule.unit) == parts


@pytest.mark.parametrize("text", ["a", "=1", "a=", "a=-1", "a=nan", "a=inf", "a@0=1", "(=1", "a=1=x"])
def test_invalid_rules(text: str) -> None:
    """A missing pattern or factor, another factor than a finite number of at least 0, and epoch 0 are invalid."""
    assert not is_rule(text)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--trainer.rates", "encoder"), id="form"),
        pytest.param(("--trainer.rates", "encodr/.*=0"), id="no match"),
        pytest.param(("--trainer.rates", "encoder=0", ".*@3=0"), id="all frozen"),
        pytest.param(("--trainer.rates", "encoder/.*@3=0.1", "encoder/.*=0"), id="no effect"),
        pytest.param(("--trainer.rates", "encoder/.*=0.1", "--trainer.no_train_scope", "encoder"), id="frozen"),
    ],
)
def test_refused(make_trainer: Any, refused: Any, words: tuple[str, ...]) -> None:
    """A rule that does nothing, and a phase in which nothing trains, are refused before training."""
    with refused(ParamsError):
        make_trainer(Tuned, *WORDS, *words)


@pytest.mark.slow
def test_compiled_by_xla(make_trainer: Any) -> None:
    """Each phase is compiled by XLA, and has the losses of the plain graph."""
    words = (*WORDS, *FREEZE, "encoder/.*@4=0.1", "head/bias@6u=0", "--trainer.epochs", "4", "--train.batch_size", "16")
    plain, xla = (make_trainer(Tuned, *words, "--trainer.jit_compile", jit) for jit in ("off", "on"))
    for ours, theirs in zip(xla.fit().history, plain.fit().history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.mark.slow
def test_measured_in_the_longest_phase(make_trainer: Any) -> None:
    """The compilation is measured in the phase with the most batches, which leaves the state as it was."""
    words = (*FREEZE, "--trainer.epochs", "9", "--train.batch_size", "16")
    trainer = make_trainer(Tuned, *words)
    before = variables(trainer)
    trainer.state.compilation = trainer.compile()
    assert trainer.engine.phases._current is trainer.engine.phases.all[1]
    assert changed(before, variables(trainer)) == set()
    other = make_trainer(Tuned, *words, "--trainer.tune", "off")
    assert trainer.fit().history == other.fit().history


@pytest.mark.slow
def test_gradient_norm_of_what_trains(make_trainer: Any) -> None:
    """The probe of callbacks computes the gradients of the weights that train in the current phase."""
    norms = []

    class Norm(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            norms.append(trainer._context().probe.gradient_norms(1)[0])

    words = ("--learning_rate.lr", "1e-9", "--trainer.tune", "off", "--trainer.rates", "encoder@2=0")
    trainer = make_trainer(Tuned, *words)
    trainer.callbacks["norm"] = Norm()
    trainer.fit()
    assert norms[1] < norms[0]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--trainer.accumulate_steps", "2")])
def test_an_update_without_weights_in_a_phase(make_trainer: Any, more: tuple[str, ...]) -> None:
    """While all weights of one of several updates are frozen, its loss is still logged, and its optimizer waits."""
    words = ("--train.batch_size", "20", "--trainer.epochs", "2", "--trainer.rates", "critic=0", "critic@2=1")
    trainer = make_trainer(Pair, *words, *more, exports=False)
    before = variables(trainer, "model/")
    states = []
    trainer.callbacks["record"] = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: states.append(variables(trainer))
    )
    history = trainer.fit().history
    assert {name.split("/")[1] for name in changed(before, states[0])} == {"painter"}
    assert {name.split("/")[1] for name in changed(before, states[1])} == {"painter", "critic"}
    iterations = [{name: int(value) for name, value in state.items() if name.endswith("iteration")} for state in states]
    assert sorted(iterations[0].values())[0] == 0 < sorted(iterations[0].values())[1]
    assert min(iterations[1].values()) > 0
    assert all(np.isfinite(epoch["critic_loss"]) for epoch in history)


def test_a_phase_that_begins_within_an_epoch_with_validations(make_trainer: Any) -> None:
    """Logged values and validations at steps change nothing in a run whose phases begin within epochs."""
    words = (*WORDS, "--train.batch_size", "8", "--trainer.epochs", "2", "--trainer.rates", "encoder/.*=0")
    rates = ("encoder/.*@4u=1", "head@6u=0.5")
    plain = make_trainer(Tuned, *words, *rates, exports=False)
    plain.fit()
    steps = ("--trainer.val_every_steps", "3", "--trainer.log_every_steps", "2")
    more = make_trainer(Tuned, *words, *rates, *steps, exports=False)
    result = more.fit()
    assert changed(variables(plain, "model/"), variables(more, "model/")) == set()
    assert [each["step"] for each in result.validations][:2] == [3, 6]
