"""Full paths of layers and variables: their form, their use in patterns and warm start, and ambiguous ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from aipcore.errors import ParamsError, ScenarioError
from aipcore.scenario import Scenario
from aipcore.scenario.paths import layers_by_path, name_optimizer_variables, name_variables, variables_by_path
from aipcore.training.engine.freezing import freeze
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.params import WarmstartParams

# Keras' save functions, which create the files of these tests, use an outdated NumPy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FEATURES = 4


class Twins(Scenario):
    """A scenario with two nested functional models whose inner layers share a name, built in the order of `order`."""

    order = "ab"

    def train_data(self) -> Any:
        x = np.random.default_rng(0).normal(size=(16, FEATURES)).astype(np.float32)
        return x, x[:, :1]

    def build(self, inputs: Any) -> Any:
        made = {}
        for name in self.order:
            inner = keras.Input((FEATURES,))
            outputs = layers.Dropout(0.1, name="drop")(layers.Dense(5, name="d1")(inner))
            made[name] = keras.Model(inner, outputs, name=f"encoder_{name}")
        return layers.Dense(1, name="out")(layers.Add()([made[name](inputs) for name in self.order]))

    def losses(self) -> Any:
        return "mse"


class Swapped(Twins):
    """The same model with the other encoder first."""

    order = "ba"


PATHS = {
    "encoder_a/d1/kernel", "encoder_a/d1/bias", "encoder_b/d1/kernel", "encoder_b/d1/bias", "out/kernel", "out/bias",
}  # fmt: skip


def weights_of(trainer: Any) -> dict[str, Any]:
    """Return copies of the weights of a run by path, without the states of random generators."""
    model = trainer.model
    return {v.path: v.numpy().copy() for v in model.variables if "seed_generator" not in v.path}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that both have the same bits under the same paths."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def around(*each: Any, shape: tuple[int, ...] = (FEATURES,)) -> Any:
    """Return a functional model of layers that take the same input."""
    inputs = keras.Input(shape)
    outputs = [layer(inputs) for layer in each]
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


def nested(name: str, *inner: Any) -> Any:
    """Return a functional model of consecutive layers."""
    inputs = outputs = keras.Input((FEATURES,))
    for layer in inner:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=name)


class Block(layers.Layer):
    """A layer with a weight, a layer in an attribute, and layers in a list and in a dict, built when called."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.first = layers.Dense(FEATURES, name="first")
        self.many = [layers.Dense(FEATURES, name="one"), layers.Dense(FEATURES, name="two")]
        self.named = {"gate": layers.Dense(FEATURES, name="gate")}
        self.scale = self.add_weight(shape=(FEATURES,), name="scale")

    def call(self, inputs: Any) -> Any:
        """Apply the layers in order."""
        for layer in (self.first, *self.many, self.named["gate"]):
            inputs = layer(inputs)
        return inputs * self.scale


class Whole(keras.Model):
    """A subclassed model with a functional model and a layer in it."""

    def __init__(self) -> None:
        super().__init__(name="whole")
        self.body = nested("body", layers.Dense(FEATURES, name="d1"))
        self.block = Block(name="block")

    def call(self, inputs: Any) -> Any:
        """Apply both in order."""
        return self.block(self.body(inputs))


def test_paths_have_all_layers_around() -> None:
    """Paths name all enclosing layers: nested functional models, subclassed models and layers, lists and dicts."""
    model = around(Whole())
    inner = {"first", "one", "two", "gate"}
    expected = {f"whole/block/{name}/{part}" for name in inner for part in ("kernel", "bias")}
    expected |= {"whole/body/d1/kernel", "whole/body/d1/bias", "whole/block/scale"}
    found = variables_by_path(model)
    assert set(found) == expected
    assert list(found.values()) == model.variables
    paths = [path for path, layer in layers_by_path(model) if layer.weights]
    assert set(paths) == {"whole", "whole/body", "whole/body/d1", "whole/block"} | {f"whole/block/{x}" for x in inner}
    assert found["whole/block/two/kernel"] is model.get_layer("whole").block.many[1].kernel


def test_layers_of_keras_have_unique_paths() -> None:
    """No layer of Keras has two variables with one path, including wrappers and cells."""
    sequences = around(
        layers.Bidirectional(layers.LSTM(2, dropout=0.1), name="both"),
        layers.Bidirectional(layers.RNN(layers.StackedRNNCells([layers.GRUCell(2), layers.GRUCell(2)])), name="cells"),
        layers.GRU(2, name="gru"),
        layers.TimeDistributed(layers.Dense(2, name="each"), name="times"),
        layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", name="einsum"),
        layers.SpectralNormalization(layers.Dense(2, name="inside"), name="spectral"),
        layers.Normalization(name="norm"),
        shape=(3, FEATURES),
    )
    inputs = keras.Input((3, FEATURES))
    attention = keras.Model(inputs, layers.MultiHeadAttention(2, 2, dropout=0.1, name="heads")(inputs, inputs))
    images = around(
        layers.RandAugment(name="augment"),
        layers.Pipeline([layers.RandomFlip(name="flip"), layers.RandomRotation(0.1, name="rotate")], name="pipeline"),
        keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False, alpha=0.35, name="mobile"),
        shape=(32, 32, 3),
    )
    found: set[str] = set()
    for model in (sequences, attention, images):
        paths = variables_by_path(model)
        assert list(paths.values()) == model.variables
        found |= set(paths)
    assert {
        "both/forward_lstm/lstm_cell/kernel", "both/backward_lstm/lstm_cell/kernel", "gru/gru_cell/recurrent_kernel",
        "times/each/kernel", "einsum/kernel", "spectral/inside/kernel", "spectral/vector_u", "norm/mean",
        "heads/attention_output/kernel", "mobile/bn_Conv1/moving_mean", "pipeline/flip/seed_generator_state",
        "augment/random_shear/seed_generator_state",
    } <= {re.sub(r"_\d+(?=/)", "", path) for path in found}  # fmt: skip


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_shared_layer_has_one_path(order: str) -> None:
    """A shared layer has the shortest path, or the alphabetically first of several, in any order of building."""
    shared, alone = layers.Dense(FEATURES, name="shared"), layers.Dense(FEATURES, name="alone")
    made = {name: nested(f"encoder_{name}", shared, alone) for name in order}
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, alone(layers.Add()([made[name](inputs) for name in order])))
    assert set(variables_by_path(model)) == {
        "encoder_a/shared/kernel", "encoder_a/shared/bias", "alone/kernel", "alone/bias",
    }  # fmt: skip


def test_freezing_reaches_shared_layers() -> None:
    """A frozen model freezes a layer that it shares with another one, listed under the path of the layer."""
    shared = layers.Dense(FEATURES, name="shared")
    inputs = keras.Input((FEATURES,))
    encoders = [nested(f"encoder_{name}", shared, layers.Dense(FEATURES, name=name)) for name in "ab"]
    model = keras.Model(inputs, layers.Add()([encoder(inputs) for encoder in encoders]))
    assert freeze(model, "encoder_b") == [("encoder_a/shared", 20), ("encoder_b/b", 20)]
    assert [path for path, variable in variables_by_path(model).items() if variable.trainable] == [
        "encoder_a/a/kernel", "encoder_a/a/bias",
    ]  # fmt: skip


def test_a_tied_weight_keeps_its_first_path() -> None:
    """A weight that another layer also uses keeps the path of the layer that created it."""

    class Tied(layers.Layer):
        def __init__(self, kernel: Any, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.kernel = kernel

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs, keras.ops.transpose(self.kernel))

    inputs = keras.Input((FEATURES,))
    dense = layers.Dense(3, use_bias=False, name="maker")
    hidden = dense(inputs)
    model = keras.Model(inputs, Tied(dense.kernel, name="also")(hidden))
    for _ in range(2):
        name_variables(model)
        assert [variable.path for variable in model.variables] == ["maker/kernel"]


def test_layers_of_one_path_are_refused(refused: Any) -> None:
    """The error names both layers and their places. A layer without variables causes no conflict."""

    class Pair(layers.Layer):
        def __init__(self, one: Any, other: Any) -> None:
            super().__init__(name="pair")
            self.one, self.others = one, [other]

        def call(self, inputs: Any) -> Any:
            return self.others[0](self.one(inputs))

    model = around(Pair(layers.Dense(FEATURES, name="d"), layers.Dense(2, name="d")))
    with refused(ScenarioError):
        variables_by_path(model)
    variables_by_path(around(Pair(layers.Dense(2, name="d"), layers.Activation("relu", name="d"))))


def test_weights_of_one_path_are_refused(refused: Any) -> None:
    """Two weights of a layer with the same name are refused; Keras numbers weights without names."""

    class Weighty(layers.Layer):
        def __init__(self, *names: Any) -> None:
            super().__init__(name="weighty")
            self.all = [self.add_weight(shape=(FEATURES,), name=name) for name in names]

        def call(self, inputs: Any) -> Any:
            return inputs * self.all[0] + self.all[1]

    assert len(variables_by_path(around(Weighty(None, None)))) == 2
    with refused(ScenarioError):
        variables_by_path(around(Weighty("w", "w")))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(amsgrad=True), keras.optimizers.Adafactor,
        lambda: keras.optimizers.Muon(0.1), lambda: keras.optimizers.SGD(0.1),
    ],
)  # fmt: skip
def test_optimizer_variables_carry_the_path_of_their_weight(make: Callable[[], Any]) -> None:
    """Each variable of a weight names it, even where Keras' flattened names would be equal."""
    model = around(nested("a_b", layers.Dense(2, name="c")), nested("a", layers.Dense(2, name="b_c")))
    name_variables(model)
    optimizer = make()
    optimizer.build(model.trainable_variables)
    name_optimizer_variables(optimizer)
    paths = [variable.path for variable in optimizer.variables]
    assert len(set(paths)) == len(paths)
    of_weights = [path for path in paths if path.count("/") > 1]
    assert len(of_weights) == len(paths) - 2
    for index, weight in enumerate(model.trainable_variables):
        lists = [each for each in vars(optimizer).values() if isinstance(each, list) and len(each) == 4]
        for each in lists:
            if each is not optimizer._trainable_variables and each[index] is not None:
                assert each[index].path.startswith(f"{optimizer.name}/{weight.path}/")


@pytest.mark.slow
def test_each_encoder_finds_its_namesake(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """A model built in another order loads each encoder from the encoder of the same name, from any source."""
    first = make_trainer(Twins, "--trainer.epochs", "1", output="run")
    first.fit()
    expected = weights_of(first)
    assert expected.keys() == PATHS
    assert not np.array_equal(expected["encoder_a/d1/kernel"], expected["encoder_b/d1/kernel"])
    folder = tmp_path / "run"
    for name in ("best", "export"):
        recorded = json.loads((folder / name / "aip.json").read_text())["variables"]
        assert {path for path in recorded if "seed" not in path} == PATHS
    manifest = json.loads(next((folder / "checkpoint").glob("step-*/manifest.json")).read_text())
    assert {f"optimizer/adam/{path}/{slot}" for path in PATHS for slot in ("momentums", "velocities")} < set(
        manifest["variables"]
    )
    sources = {"run": folder, "checkpoint": folder / "checkpoint"}
    for file in ("m.keras", "m.weights.h5"):
        sources[file] = tmp_path / file
    first.model.save(sources["m.keras"])
    first.model.save_weights(sources["m.weights.h5"])
    for name, path in sources.items():
        trainer = make_trainer(Swapped, "--trainer.random_seed", "3", "--warmstart.model", str(path))
        assert_equal(weights_of(trainer), expected)
        assert {row.status for row in trainer._warm_start.rows} == {"loaded"}, name
    trainer = make_trainer(Swapped, "--warmstart.model", str(folder), "--warmstart.include", "encoder_a/.*")
    loaded = {row.path for row in trainer._warm_start.rows if row.status == "loaded"}
    assert loaded == {"encoder_a/d1/kernel", "encoder_a/d1/bias"}
    trainer = make_trainer(Swapped, "--warmstart.model", str(folder), "--warmstart.exclude", "encoder_a/.*")
    assert {row.path for row in trainer._warm_start.rows if row.status == "skipped"} == loaded
    words = ("--warmstart.rename", "encoder_a->encoder_x", "encoder_b->encoder_a", "encoder_x->encoder_b")
    found = weights_of(make_trainer(Swapped, "--warmstart.model", str(folder), *words))
    np.testing.assert_array_equal(found["encoder_a/d1/kernel"], expected["encoder_b/d1/kernel"])


@pytest.mark.slow
def test_a_resumed_run_keeps_its_state_apart(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Weights, moments, averages and partial gradients are restored by name in a model built in another order."""
    words = ("--trainer.epochs", "1", "--trainer.accumulate_steps", "2", "--trainer.calc_ema", "0.5")
    first = make_trainer(Twins, *words, output="run")
    first.fit()
    expected = first.state.variables.read()
    second = make_trainer(Swapped, *words)
    second.restore(max((tmp_path / "run" / "checkpoint").glob("step-*")))
    assert_equal(second.state.variables.read(), expected)
    kernels = {name for name in expected if name.endswith("encoder_a/d1/kernel") or "encoder_a/d1/kernel/" in name}
    assert {name.partition("/")[0] for name in kernels} == {"model", "optimizer", "ema", "loop"}


def test_names_that_lack_layers(tmp_path: Path, refused: Any) -> None:
    """TensorFlow's names in a SavedModel of Keras lack nested models, so ambiguous ones are refused."""

    def load(model: Any, name: str, **params: Any) -> dict[str, tuple[str, str]]:
        done = warm_start(model, WarmstartParams(model=tmp_path / name, **params))
        assert done is not None
        return {row.path: (row.source, row.status) for row in done.rows if row.path}

    def pair(*names: str) -> Any:
        return around(*(nested(f"encoder_{name}", layers.Dense(2, name="d1")) for name in names))

    pair("a").export(tmp_path / "one", verbose=False)
    assert load(pair("a"), "one")["encoder_a/d1/kernel"] == ("d1/kernel", "loaded")
    both = pair("a", "b")
    both.export(tmp_path / "both", verbose=False)
    with refused(ParamsError):
        load(pair("b", "a"), "both")
    rules = tuple(f"variables/{at}->{path}" for at, path in enumerate(variables_by_path(both)))
    model = pair("b", "a")
    assert set(load(model, "both", rename=rules).values()) == {(f"variables/{at}", "renamed") for at in range(4)}
    assert_equal(
        {path: v.numpy() for path, v in variables_by_path(model).items()},
        {path: v.numpy() for path, v in variables_by_path(both).items()},
    )


def test_numbers_that_depend_on_the_order(tmp_path: Path, refused: Any) -> None:
    """Layers that Keras numbers across all encoders are not matched by guessing."""

    def pair(*names: str) -> Any:
        keras.utils.clear_session(free_memory=False)
        return around(*(nested(f"encoder_{name}", layers.Dense(FEATURES), layers.Dense(FEATURES)) for name in names))

    trained = pair("a", "b")
    trained.export(tmp_path / "saved", verbose=False)
    trained.save(tmp_path / "m.keras")
    with refused(ParamsError):
        warm_start(pair("b", "a"), WarmstartParams(model=tmp_path / "saved"))
    model = pair("b", "a")
    warm_start(model, WarmstartParams(model=tmp_path / "m.keras"))
    for name in "ab":
        for ours, theirs in zip(
            model.get_layer(f"encoder_{name}").weights, trained.get_layer(f"encoder_{name}").weights, strict=True
        ):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_patterns_see_full_paths(make_trainer: Callable[..., Any]) -> None:
    """One encoder is frozen, or excluded from weight decay, although another's inner layer has the same name."""
    trainer = make_trainer(Twins, "--trainer.no_train_scope", "encoder_a/.*")
    assert trainer.engine.frozen == [("encoder_a/d1", 25)]
    assert {v.path for v in trainer.model.trainable_variables} == {p for p in PATHS if "encoder_a" not in p}
    words = ("--optimizer.weight_decay", "0.5", "--optimizer.exclude_from_weight_decay", "encoder_a/.*")
    for optimizer in ("SGD", "Muon", "LAMB"):
        trainer = make_trainer(
            Twins, "--optimizer", optimizer, *words, "--learning_rate", "Constant", "--learning_rate.lr", "0.1"
        )
        assert trainer.engine.optimizer.excluded == {"encoder_a/d1/kernel", "encoder_a/d1/bias"}


@pytest.mark.parametrize(
    "words",
    [
        ("--trainer.no_train_scope", "encoder_c/d1"),
        ("--optimizer.exclude_from_weight_decay", "bias", "encodr_a/"),
        ("--optimizer", "Muon", "--optimizer.adam_layers", "encodr_a/"),
    ],
)
def test_a_pattern_that_matches_nothing(make_trainer: Callable[..., Any], words: tuple[str, ...], refused: Any) -> None:
    """A pattern without matches is refused at setup, with the nearest paths."""
    with refused(ParamsError):
        make_trainer(Twins, *words)
