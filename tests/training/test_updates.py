"""Several updates per step: the numbers of a plain loop, exact resuming, options by name, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_scenarios import PAIR_SAMPLES, Pair

from aipcore.errors import AipError, ParamsError, ScenarioError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario import Scenario, TargetNetwork, Update
from aipcore.scenario.author_names import check_scenario
from aipcore.scenario.loader import loaded_class
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.request import make_request
from aipcore.training.stored_run import Change, refuse_impossible

BATCH = 8
STEPS = PAIR_SAMPLES // BATCH
RATES = ("--updates.critic.learning_rate", "Constant", "--updates.critic.learning_rate.lr", "0.01",
         "--updates.painter.learning_rate", "Constant", "--updates.painter.learning_rate.lr", "0.005")  # fmt: skip
ONE_EPOCH = ("--train.batch_size", str(BATCH), "--train.shuffle", "false", "--trainer.epochs", "1", *RATES)


class NoisyPair(Pair):
    """The same with dropout, batch normalisation and numbers drawn in the losses, and a network that follows."""

    drops = True

    def build(self, inputs: Any) -> Any:
        outputs = super().build(inputs)
        follower = keras.Sequential(
            [keras.layers.Dense(8, "tanh", name="hidden"), keras.layers.Dense(2, name="out")], name="slow"
        )
        return {**outputs, "slow": follower(inputs["noise"])}

    def painter_loss(self, model: Any, inputs: Any, targets: Any, random: Any) -> Any:
        painted = model.get_layer("painter")(random.normal(3))
        score = tf.cast(model.get_layer("critic")(painted)[:, 0], tf.float32)
        return tf.nn.softplus(-score) + 0.1 * random.uniform()

    updates = (*Pair.updates, TargetNetwork("slow", weights="slow/(.*)", source=r"painter/\1", rate=0.9))


def plain_loop(trainer: Any, times: int = 1, clip: float | None = None) -> tuple[Any, list[float], list[float]]:
    """Train a copy of a run's model for an epoch with two Keras optimizers, as a user of Keras writes it."""
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    critic, painter = model.get_layer("critic"), model.get_layer("painter")
    optimizers = keras.optimizers.Adam(0.01, global_clipnorm=clip), keras.optimizers.Adam(0.005)
    inputs, _ = trainer.scenario.train_data()
    losses: tuple[list[float], list[float]] = ([], [])
    for start in range(0, STEPS * BATCH, BATCH):
        point, noise = (inputs[name][start : start + BATCH] for name in ("point", "noise"))
        for _ in range(times):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(
                    tf.nn.softplus(-critic(point, training=True)) + tf.nn.softplus(critic(painter(noise)))
                ) + tf.add_n(critic.losses)
            weights = critic.trainable_variables
            optimizers[0].apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            losses[0].append(float(loss))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softplus(-critic(painter(noise, training=True))))
        weights = painter.trainable_variables
        optimizers[1].apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        losses[1].append(float(loss))
    return model, *losses


def assert_same_weights(trainer: Any, model: Any, tolerance: float = 1e-5) -> None:
    """Compare the weights of a run with those of another model."""
    for ours, theirs in zip(trainer.model.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=tolerance, atol=tolerance, err_msg=ours.path)


@pytest.mark.parametrize(("times", "jit"), [(2, "off"), pytest.param(3, "on", marks=pytest.mark.slow)])
def test_equals_a_plain_loop(make_trainer: Any, times: int, jit: str) -> None:
    """Weights and losses after 20 steps equal those of a loop with two optimizers, with clipping and a regularizer."""
    words = ("--updates.critic.times", str(times), "--updates.critic.optimizer.clip_global_norm", "0.3")
    trainer = make_trainer(Pair, *ONE_EPOCH, *words, "--trainer.jit_compile", jit)
    model, critic, painter = plain_loop(trainer, times, clip=0.3)
    before = float(np.abs(trainer.model.predict(trainer.scenario.val_data()[0], verbose=0)["painted"]
                          - trainer.scenario.val_data()[1]).mean())  # fmt: skip
    logs = trainer.fit().history[0]
    assert_same_weights(trainer, model)
    assert logs["critic_loss"] == pytest.approx(np.mean(critic), rel=1e-5)
    assert logs["painter_loss"] == pytest.approx(np.mean(painter), rel=1e-5)
    assert logs["loss"] == pytest.approx(logs["critic_loss"] + logs["painter_loss"])
    assert logs["val_loss"] == pytest.approx(logs["val_critic_loss"] + logs["val_painter_loss"])
    assert (logs["critic_lr"], logs["painter_lr"]) == pytest.approx((0.01, 0.005))
    assert logs["val_painted_distance"] != pytest.approx(before)
    iterations = {name: int(each.iterations) for name, each in trainer.engine.optimizers.items()}
    assert iterations == {"critic": STEPS * times, "painter": STEPS}
    plan = dict(trainer.plan())
    assert plan["update critic"].startswith(f"33 weights, {times} times for each batch; Adam, ")
    assert "not trained" not in plan


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_one_batch(make_trainer: Any) -> None:
    """Groups of batches equal a loop that computes both gradients of the large batch, and then applies both."""
    trainer = make_trainer(Pair, *ONE_EPOCH, "--trainer.accumulate_steps", "4")
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    optimizers = keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.005)
    inputs, _ = trainer.scenario.train_data()
    names, size = ("critic", "painter"), 4 * BATCH
    for start in range(0, STEPS * BATCH, size):
        batch = {name: tf.constant(column[start : start + size]) for name, column in inputs.items()}
        with tf.GradientTape(persistent=True) as tape:
            losses = [
                tf.reduce_mean(trainer.scenario.critic_loss(model, batch, None))
                + tf.add_n(model.get_layer("critic").losses),
                tf.reduce_mean(trainer.scenario.painter_loss(model, batch, None)),
            ]
        found = [
            tape.gradient(loss, model.get_layer(name).trainable_variables)
            for name, loss in zip(names, losses, strict=True)
        ]
        for name, optimizer, gradients in zip(names, optimizers, found, strict=True):
            optimizer.apply_gradients(zip(gradients, model.get_layer(name).trainable_variables, strict=True))
    trainer.fit()
    assert_same_weights(trainer, model)


EVERYTHING = (
    "--train.batch_size", "12", "--trainer.epochs", "2", "--checkpoint.keep", "9", "--checkpoint.every_steps", "2",
    "--trainer.samples_per_epoch", "64", "--trainer.tune", "off",
    "--updates.critic.times", "2", "--updates.critic.optimizer", "AdaBelief", "--updates.painter.calc_ema", "0.9",
    "--updates.painter.learning_rate", "CosineDecay", "--trainer.export_best", "false", "--trainer.export_final",
    "false",
)  # fmt: skip


def bits(trainer: Any) -> dict[str, bytes]:
    """Return all variables of a run, as bytes."""
    return {name: array.tobytes() for name, array in trainer.state.variables.read().items()}


@pytest.mark.parametrize(
    "more",
    [
        (),
        pytest.param(("--trainer.precision", "float16"), marks=pytest.mark.slow),
        pytest.param(("--trainer.jit_compile", "on"), marks=pytest.mark.slow),
        pytest.param(("--trainer.force_eager", "true"), marks=pytest.mark.slow),
    ],
    ids=["graph", "float16", "xla", "eager"],
)
def test_resumes_exactly(make_trainer: Any, more: tuple[str, ...]) -> None:
    """From the middle of an epoch, dropout, drawn numbers, EMA and the target network continue bit-identically."""
    whole = make_trainer(NoisyPair, *EVERYTHING, *more, output="whole")
    history = whole.fit().history
    found = bits(whole)
    path = sorted((whole.output_dir / "checkpoint").iterdir())[1]
    again = make_trainer(NoisyPair, *EVERYTHING, *more, output="again")
    again.restore(path)
    assert 0 < again.state.step < 6
    assert again.fit().history == history
    assert bits(again) == found
    assert {name.split("/")[1] for name in found if name.startswith("optimizer/")} == {"critic", "painter"}
    assert any(name.startswith("ema/painter/") for name in found)
    assert not any(name.startswith("ema/critic/") for name in found)
    assert history[-1]["painter_ema_rate"] == 0.9


def test_target_network_and_validation(make_trainer: Any) -> None:
    """A network follows its source from a copy: slow = 0.9 slow + 0.1 source. Validation is in inference mode."""
    trainer = make_trainer(NoisyPair, *ONE_EPOCH, "--trainer.samples_per_epoch", str(2 * BATCH))

    def values(name: str) -> list[Any]:
        return [weight.numpy() for weight in trainer.model.get_layer(name).weights]

    slow = values("slow")
    for ours, theirs in zip(slow, values("painter"), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    class Follow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            slow[:] = [0.9 * ours + 0.1 * theirs for ours, theirs in zip(slow, values("painter"), strict=True)]

    trainer.callbacks["follow"] = Follow()
    trainer._per_batch.append("follow")
    logs = trainer.fit().history[0]
    for ours, theirs in zip(values("slow"), slow, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert "slow" in dict(trainer.plan())["update slow"]
    # Keras calls layers in inference mode by default.
    values_of = trainer.scenario.critic_loss(trainer.model, trainer.scenario.val_data()[0], None)
    penalty = sum(float(each) for each in trainer.model.get_layer("critic").losses)
    assert logs["val_critic_loss"] == pytest.approx(float(tf.reduce_mean(values_of)) + penalty, rel=1e-5)


def test_drawn_numbers(make_trainer: Any) -> None:
    """Each update and each repetition draws other numbers, the same for any number of steps per call."""
    drawn: list[Any] = []

    class Drawing(Pair):
        def critic_loss(self, model: Any, inputs: Any, targets: Any, random: Any) -> Any:
            tf.py_function(lambda *values: drawn.append([value.numpy() for value in values]),
                           [random.normal(2), random.normal(2), random.uniform(3)], [])  # fmt: skip
            return super().critic_loss(model, inputs, targets)

        updates = (Update("critic", trains="critic", loss=critic_loss, times=2),)

    words = [*ONE_EPOCH[:6], "--trainer.samples_per_epoch", "24", "--trainer.tune", "off"]

    class WithoutValidation(Drawing):
        def val_data(self) -> Any:
            return None

    make_trainer(WithoutValidation, *words).fit()
    # The checks before training draw the numbers of validation.
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    del drawn[0]
    first, uniform = np.stack([each[0] for each in drawn]), np.stack([each[2] for each in drawn])
    second = np.stack([each[1] for each in drawn])
    assert len({each.tobytes() for each in [*first, *second]}) == 2 * len(drawn)
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(float(first.mean())) < 0.5
    drawn.clear()
    one = make_trainer(WithoutValidation, *words)
    one.state.compilation = attrs.evolve(one.compile(), chunk=1)
    one.fit()
    np.testing.assert_array_equal(first[1:], np.stack([each[0] for each in drawn[2:]]))


@pytest.mark.slow
def test_input_gradients_in_a_loss(make_trainer: Any) -> None:
    """A gradient penalty inside a loss has the second derivatives of a plain loop."""

    class Penalised(Pair):
        def critic_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
            point = inputs["point"]
            with tf.GradientTape() as tape:
                tape.watch(point)
                total = tf.reduce_sum(model.get_layer("critic")(point))
            slope = tf.reduce_sum(tape.gradient(total, point) ** 2, axis=1)
            return (tf.sqrt(slope + 1e-12) - 1) ** 2

        updates = (Update("critic", trains="critic", loss=critic_loss),)

    trainer = make_trainer(Penalised, *ONE_EPOCH[:6], "--updates.critic.optimizer", "SGD",
                           "--updates.critic.learning_rate", "Constant")  # fmt: skip
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    inputs, _ = trainer.scenario.train_data()
    weights = model.get_layer("critic").trainable_variables
    for start in range(0, STEPS * BATCH, BATCH):
        with tf.GradientTape() as tape:
            point = tf.constant(inputs["point"][start : start + BATCH])
            loss = tf.reduce_mean(trainer.scenario.critic_loss(model, {"point": point}, None))
            loss += tf.add_n(model.get_layer("critic").losses)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            if gradient is not None:
                weight.assign_sub(0.001 * gradient)
    trainer.fit()
    assert_same_weights(trainer, model)
    assert "painter/hidden/kernel" in dict(trainer.plan())["not trained"]


@pytest.mark.slow
def test_sharpness_aware_minimisation(make_trainer: Any, blobs_class: Any) -> None:
    """A loss at shifted weights gives the two-pass steps of a plain loop."""

    def both_passes(model: Any, inputs: Any, targets: Any) -> Any:
        def losses(weights: Any) -> Any:
            outputs, _ = model.stateless_call(weights, model.non_trainable_variables, inputs, training=True)
            return keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

        weights = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            mean = tf.reduce_mean(losses(weights))
        slopes = [tf.stop_gradient(slope) for slope in tape.gradient(mean, weights)]
        length = tf.linalg.global_norm(slopes)
        return losses([weight + 0.5 * slope / length for weight, slope in zip(weights, slopes, strict=True)])

    class Sharp(blobs_class):  # type: ignore[misc]
        losses = Scenario.losses

        def sam_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
            return both_passes(model, inputs, targets)

        updates = (Update("all", trains=".*", loss=sam_loss),)

    trainer = make_trainer(Sharp, *ONE_EPOCH[:6], "--updates.all.optimizer", "SGD", "--updates.all.learning_rate",
                           "Constant", "--updates.all.learning_rate.lr", "0.1")  # fmt: skip
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    inputs, targets = trainer.scenario.train_data()
    for start in range(0, len(inputs), BATCH):
        batch, labels = (tf.constant(each[start : start + BATCH]) for each in (inputs, targets))

        def slopes(batch: Any = batch, labels: Any = labels) -> list[Any]:
            with tf.GradientTape() as tape:
                entropy = keras.losses.sparse_categorical_crossentropy(labels, model(batch), from_logits=True)
                loss = tf.reduce_mean(entropy)
            return tape.gradient(loss, model.trainable_variables)  # type: ignore[no-any-return]

        first = slopes()
        before = model.get_weights()
        length = np.sqrt(sum(float(tf.reduce_sum(slope**2)) for slope in first))
        model.set_weights([weight + 0.5 * slope / length for weight, slope in zip(before, first, strict=True)])
        second = slopes()
        model.set_weights([weight - 0.1 * slope for weight, slope in zip(before, second, strict=True)])
    trainer.fit()
    assert_same_weights(trainer, model)


@pytest.mark.slow
def test_sample_weights(make_trainer: Any) -> None:
    """Samples of weight 0 have no influence on the updates."""

    class Weighted(Pair):
        weight = 0.0

        def train_data(self) -> Any:
            inputs, targets = super().train_data()
            weights = np.float32(np.arange(len(targets)) % 2)
            spoilt = {name: np.where(weights[:, None] > 0, column, self.weight) for name, column in inputs.items()}
            return {name: np.float32(column) for name, column in spoilt.items()}, targets, weights

        def val_data(self) -> Any:
            return None

    class Spoilt(Weighted):
        weight = 5.0

    first, second = make_trainer(Weighted, *ONE_EPOCH), make_trainer(Spoilt, *ONE_EPOCH)
    first.fit(), second.fit()
    assert_same_weights(first, second.model, 1e-6)


def request_of(cls: type[Any], *words: str) -> Any:
    """Return the request of a scenario class with command-line words."""
    return make_request(loaded_class(cls, {}), [Layer.from_arguments(words)], get_plugin_manager())


@pytest.mark.parametrize(
    "words",
    [
        ("--updates.critc.optimizer", "SGD"),
        ("--optimizer", "Adam"),
        ("--learning_rate.lr", "0.1"),
        ("--trainer.calc_ema", "0.9"),
        ("--trainer.input_gradient_penalty", "1"),
        ("--updates.critic.times", "0"),
        ("--updates.critic.times", "2", "--trainer.accumulate_steps", "2"),
    ],
)  # fmt: skip
def test_refused_options(words: tuple[str, ...], refused: Any) -> None:
    """A mistyped name, an option of a single update and an impossible combination are refused before TensorFlow."""
    with refused(AipError):
        request_of(Pair, *words).checked()


def test_other_scenarios_have_no_updates(blobs_class: Any, refused: Any) -> None:
    """The parameters of a single update are unchanged, and `updates` does not exist."""
    values = request_of(blobs_class).resolved()
    assert not any("updates" in name for name in values.origins)
    with refused(ParamsError):
        request_of(blobs_class, "--updates.critic.times", "2").checked()


def loss(self: Any, model: Any, inputs: Any, targets: Any) -> Any:
    """A loss outside of a class."""


@pytest.mark.parametrize(
    "members",
    [
        {"updates": "critic"},
        {"updates": [Update("Critic", trains="critic", loss=Pair.critic_loss)]},
        {"updates": [Pair.updates[0], Pair.updates[0]]},
        {"updates": [Update("critic", trains="critic(", loss=Pair.critic_loss)]},
        {"updates": [Update("critic", trains="critic", loss="critic_los")]},
        {"updates": [Update("critic", trains="critic", loss=loss)]},
        {"updates": [Update("critic", trains="critic", loss=Pair.critic_loss, times=0)]},
        {"updates": [TargetNetwork("slow", weights="a", source="b")]},
        {"updates": [*Pair.updates, TargetNetwork("slow", weights="a", source="b", rate=1)]},
        {"updates": lambda self: []},
        {"losses": lambda self: "mse"},
        {"critic_loss": lambda self, model: None},
        {"train_step": lambda self, data: None},
    ],
    ids=lambda members: next(iter(members)),
)
def test_refused_declarations(members: dict[str, Any], refused: Any) -> None:
    """Invalid records, a loss that is not a method, and a second definition of losses are refused."""
    with refused(ScenarioError):
        check_scenario(type("Wrong", (Pair,), members))


class Several(keras.Model):  # type: ignore[misc]
    """A Keras model that trains itself in `fit`."""

    def __init__(self) -> None:
        super().__init__(name="several")
        self.dense = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> Any:
        return {}


def mistaken(loss: Any) -> type[Any]:
    """Return a scenario whose critic has this loss."""
    loss.__name__ = "critic_loss"
    updates = (Update("critic", trains="critic", loss=loss), *Pair.updates[1:])
    return type("Mistaken", (Pair,), {"critic_loss": loss, "updates": updates})


class Constant(Pair):
    """An update whose loss depends on none of its weights."""

    def painter_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
        return tf.reduce_sum(inputs["point"], axis=1)


@pytest.mark.parametrize(
    "cls",
    [
        mistaken(lambda self, model, inputs, targets: None),
        mistaken(lambda self, model, inputs, targets: tf.zeros(2 * BATCH)),
        mistaken(lambda self, model, inputs, targets: keras.random.normal((BATCH,))),
        mistaken(lambda self, model, inputs, targets: tf.random.normal((BATCH,))),
        Constant,
        type("Nothing", (Pair,), {"updates": [Update("critic", trains="hidden", loss=Pair.critic_loss)]}),
        type("Overwritten", (Pair,), {"updates": [
            *Pair.updates, TargetNetwork("slow", weights="critic/out/(.*)", source=r"critic/hidden/\1"),
        ]}),
        type("Trained", (NoisyPair,), {"updates": [
            *NoisyPair.updates, Update("slow_painter", trains="slow", loss=Pair.painter_loss),
        ]}),
        type("OwnStep", (Pair,), {"build": lambda self, inputs: {"score": Several()(inputs["point"])}}),
    ],
    ids=["none", "joined", "unseeded", "stateful", "constant", "no layer", "other shape", "trained target", "own step"],
)  # fmt: skip
def test_refused_models_and_losses(make_trainer: Any, cls: Any, refused: Any) -> None:
    """Losses without a value per sample, untracked random numbers and layers that do not match are refused."""
    with refused(ScenarioError):
        make_trainer(cls, *ONE_EPOCH[:6], "--trainer.tune", "off").fit()


def test_frozen_layers(make_trainer: Any, refused: Any) -> None:
    """An update trains what is not frozen; if all of its layers are frozen, it is refused."""
    trainer = make_trainer(Pair, *ONE_EPOCH, "--trainer.no_train_scope", "critic/hidden")
    assert [each.path for each in trainer.engine.loop.trained[0].weights] == ["critic/out/kernel", "critic/out/bias"]
    with refused(ScenarioError):
        make_trainer(Pair, *ONE_EPOCH, "--trainer.no_train_scope", "critic")


@pytest.mark.parametrize("rules", [["slow/.*=0.5"], ["critic=0", "painter=0"]], ids=["target", "all"])
def test_rates_of_weights_without_update(make_trainer: Any, rules: list[str], refused: Any) -> None:
    """A factor for weights that no update trains, and a phase in which no update trains anything, are refused."""
    with refused(AipError):
        make_trainer(NoisyPair, *ONE_EPOCH, "--trainer.rates", *rules)


@pytest.mark.parametrize(
    "change",
    [("critic.optimizer.name", "Adam", "SGD"), ("critic.calc_ema", 0, 0.9)],
    ids=["optimizer", "ema"],
)
def test_changes_refused_in_a_resumed_run(change: tuple[str, Any, Any], refused: Any) -> None:
    """Another optimizer, and an EMA that the run did not start with, are refused for each update."""
    path, before, after = change
    with refused(AipError):
        refuse_impossible([Change(f"trainer.updates.{path}", before, after)])
    refuse_impossible([Change("trainer.updates.critic.learning_rate.lr", 0.1, 0.2)])


@pytest.mark.slow
def test_exports_and_lav(make_trainer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """LAV has the metrics without the losses, which need the parts of the model; the model is exported."""
    words = (
        *ONE_EPOCH,
        "--trainer.lav_every_n",
        "1",
        "--updates.painter.calc_ema",
        "0.5",
        "--callbacks",
        "GradientNorm",
    )
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(Pair, *words, output="run")
        logs = trainer.fit().history[0]
    assert logs["lav_painted_distance"] == pytest.approx(logs["val_painted_distance"], rel=1e-6)
    assert "lav_loss" not in logs
    assert newest_checkpoint(trainer.output_dir / "checkpoint") is not None
    served = tf.saved_model.load(str(trainer.output_dir / "export")).signatures["serving_default"]
    inputs, targets = trainer.scenario.val_data()
    painted = served(**{name: tf.constant(column) for name, column in inputs.items()})["painted"]
    assert np.abs(painted.numpy() - targets).mean() == pytest.approx(logs["val_painted_distance"], rel=1e-5)
