"""Warm start: file formats, matching of weights, and error messages."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aipcore.errors import ParamsError
from aipcore.training.artifacts import WEIGHTS, find_artifact
from aipcore.training.reporter import Reporter
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.matching import WarmStart, align
from aipcore.training.warmstart.params import WarmstartParams
from aipcore.training.warmstart.readers import read_weights

# Keras' save functions, which create the files of these tests, use an outdated NumPy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FEATURES, CLASSES = 12, 4


def chain(*units: int, head: str | None = None) -> keras.Model:
    """Return a model of consecutive dense layers, numbered from `dense`; the last one may have a name."""
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((FEATURES,))
    outputs = inputs
    for number, each in enumerate(units, start=1):
        outputs = layers.Dense(each, name=head if number == len(units) else None)(outputs)
    return distinct(keras.Model(inputs, outputs))


def varied() -> keras.Model:
    """Return a model with nested layers, of all kinds that files name differently."""
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((8, FEATURES))
    outputs = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(inputs)
    outputs = layers.MultiHeadAttention(2, 3)(outputs, outputs)
    inner = keras.Sequential(
        [layers.Dense(5), layers.BatchNormalization(), layers.Dense(6, name="named")], name="inner"
    )
    outputs = layers.Dropout(0.2)(layers.GRU(4)(inner(outputs)))
    return distinct(keras.Model(inputs, layers.Dense(2, name="head")(layers.Dense(7)(outputs))))


def distinct(model: Any) -> Any:
    """Assign distinct numbers to all weights of the model, and return it."""
    generator = np.random.default_rng(len(model.variables))
    for variable in weights_of(model):
        variable.assign(generator.uniform(size=variable.shape))
    return model


def weights_of(model: Any) -> list[Any]:
    """Return all variables except the states of random generators."""
    return [variable for variable in model.variables if "seed_generator" not in variable.path]


def values(model: Any) -> dict[str, Any]:
    """Return copies of the weights by path."""
    return {variable.path: variable.numpy().copy() for variable in weights_of(model)}


def load(model: Any, path: Path, **params: Any) -> WarmStart:
    """Return a completed warm start."""
    done = warm_start(model, WarmstartParams(model=path, **params))
    assert done is not None
    return done


def statuses(done: WarmStart) -> dict[str, tuple[str, str]]:
    """Return the source and the status of each variable of the model."""
    return {row.path: (row.source, row.status) for row in done.rows if row.path}


def without_names(path: Path) -> Path:
    """Remove the layer names from a weights file, as in files of older versions of Keras."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: item.attrs.pop("name", None) and None)
        file["vars"].attrs.pop("name", None)
    return path


def old_keras_file(path: Path, target: Path) -> Path:
    """Create a `.keras` file whose weights have no layer names."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as made:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".h5"):
                content = without_names_in(content)
            made.writestr(name, content)
    return target


def without_names_in(content: bytes) -> bytes:
    """Remove the layer names from the content of a file."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        file.visititems(lambda name, item: item.attrs.pop("name", None) and None)
    return buffer.getvalue()


def saved(model: Any, form: str, folder: Path) -> Path:
    """Save the model in one of the formats that are not aip's."""
    path = folder / {"keras": "m.keras", "old keras": "m.keras"}.get(form, "m.weights.h5")
    if form in ("keras", "old keras"):
        model.save(path)
        return old_keras_file(path, folder / "old.keras") if form == "old keras" else path
    if form in ("weights", "old weights"):
        model.save_weights(path)
        return without_names(path) if form == "old weights" else path
    if form == "SavedModel":
        # A compiled model is stored with its optimizer, which also has the model's variables.
        model.compile("adam", "mse", metrics=["mae"])
        model.optimizer.build(model.trainable_variables)
        tf.saved_model.save(model, str(folder / "saved"))
    else:
        model.export(folder / "saved", verbose=False)
    return folder / "saved"


FORMS = ("keras", "old keras", "weights", "old weights", "SavedModel", "export")


@pytest.mark.parametrize("form", FORMS)
def test_takes_more_than_its_own_formats(form: str, tmp_path: Path) -> None:
    """Trap of the predecessor: Keras files with or without layer names and foreign SavedModels load completely."""
    trained = varied()
    before = values(trained)
    path = saved(trained, form, tmp_path)
    fresh = varied()
    for variable in weights_of(fresh):
        variable.assign(np.zeros(variable.shape))
    done = load(fresh, path)
    after = values(fresh)
    assert {row.status for row in done.rows} <= {"loaded", "renamed"}
    assert after.keys() == before.keys()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_weights_h5_inserted_layer(form: str, tmp_path: Path, refused: Any) -> None:
    """Trap of Keras: in files that name layers by their order, all others load if a layer was inserted in front."""
    trained = chain(16, 10, 8, CLASSES)
    before = values(trained)
    path = saved(trained, form, tmp_path)
    model = chain(20, 16, 10, 8, CLASSES)
    with refused(ParamsError):
        load(model, path)
    model = chain(FEATURES, 16, 10, 8, CLASSES)
    fresh = values(model)
    done = load(model, path, allow_partial=True)
    after = values(model)
    np.testing.assert_array_equal(after["dense/kernel"], fresh["dense/kernel"])
    for number in range(4):
        old = f"dense_{number}/kernel" if number else "dense/kernel"
        np.testing.assert_array_equal(after[f"dense_{number + 1}/kernel"], before[old])
    kinds = statuses(done)
    assert kinds["dense/kernel"] == ("", "missing")
    assert kinds["dense_2/kernel"][1] == "renamed"
    assert done.summary().endswith("8 of 10 variables loaded, 8 of them renamed, 2 missing")


class Tower(layers.Layer):
    """A model with layers in a list and in attributes, two of them of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [layers.Dense(6), layers.Dense(6)]
        self.gate = layers.Dense(6)

    def build(self, shape: Any) -> None:
        """Build all layers."""
        for layer in (*self.blocks, self.gate):
            layer.build((None, 6))

    def call(self, inputs: Any) -> Any:
        """Apply the layers in order."""
        return self.gate(self.blocks[1](self.blocks[0](inputs)))


def towers(count: int) -> keras.Model:
    """Return a model of consecutive custom layers of the same shapes."""
    inputs = keras.Input((6,))
    outputs = inputs
    for _ in range(count):
        outputs = Tower()(outputs)
    return distinct(keras.Model(inputs, outputs))


@pytest.mark.parametrize("form", ["weights", "old weights", "SavedModel"])
def test_numbers_that_counted_on(form: str, tmp_path: Path) -> None:
    """Layers whose numbers changed because others were built before them are matched in order, also in lists."""
    keras.utils.clear_session(free_memory=False)
    trained = towers(2)
    path = saved(trained, form, tmp_path)
    model = towers(2)
    done = load(model, path)
    assert {row.status for row in done.rows} == {"renamed"}
    for one, other in zip(weights_of(trained), weights_of(model), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=other.path)


def test_hdf5_of_keras_2(tmp_path: Path) -> None:
    """The `.h5` files of Keras 2 name variables as the programs did; `model_weights` is beside the optimizer group."""
    path = tmp_path / "old.h5"
    kernel = np.arange(48, dtype=np.float32).reshape(FEATURES, CLASSES)
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"input_1", b"dense"]
        group.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        group.create_group("dense").attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        group["dense/dense/kernel:0"] = kernel
        group["dense/dense/bias:0"] = np.ones(CLASSES, np.float32)
        file.create_group("optimizer_weights")
    model = chain(CLASSES)
    assert load(model, path).summary().endswith("2 of 2 variables loaded")
    np.testing.assert_array_equal(values(model)["dense/kernel"], kernel)


def test_a_layer_of_the_same_shape_is_not_guessed(tmp_path: Path, refused: Any) -> None:
    """If several layers could be the inserted one, an error asks; excluding one by its path resolves it."""
    path = saved(chain(16, 16, CLASSES), "weights", tmp_path)
    with refused(ParamsError):
        load(chain(16, 16, 16, CLASSES), path)
    done = load(chain(16, 16, 16, CLASSES), path, exclude="dense_1/.*")
    assert statuses(done)["dense_2/kernel"] == ("dense_1/vars/0", "renamed")
    assert statuses(done)["dense_1/kernel"][1] == "skipped"
    done = load(chain(16, 16, 16, CLASSES), path, rename=("dense_2->dense_3",), allow_partial=True)
    assert statuses(done)["dense_1/kernel"] == ("dense_1/vars/0", "loaded")
    assert statuses(done)["dense_3/kernel"] == ("dense_2/vars/0", "renamed")
    assert statuses(done)["dense_2/kernel"] == ("", "missing")


def test_error_labels_are_right(tmp_path: Path, refused: Any) -> None:
    """Trap of the predecessor, which swapped them: errors name the side of missing weights and of each shape."""
    path = saved(chain(16, CLASSES, head="head"), "export", tmp_path)
    with pytest.raises(ParamsError) as caught:
        load(chain(16, 7, head="other"), path)
    assert "Missing in the source: other/kernel (16, 7), other/bias (7,)" in str(caught.value)
    assert "Only in the source: head/kernel (16, 4), head/bias (4,)" in str(caught.value)
    with refused(ParamsError):
        load(chain(16, 7, head="head"), path)
    model = chain(16, 7, head="head")
    before = values(model)
    done = load(model, path, allow_partial=True)
    assert statuses(done)["head/kernel"] == ("head/kernel", "shape mismatch")
    assert done.summary().endswith("2 of 4 variables loaded, 2 shape mismatch")
    np.testing.assert_array_equal(values(model)["head/kernel"], before["head/kernel"])


def test_nothing_matched_is_always_an_error(tmp_path: Path, refused: Any) -> None:
    """A warm start without any match is an error even with `allow_partial`, and lists the names of both sides."""
    path = saved(chain(5, head="alone"), "export", tmp_path)
    with refused(ParamsError):
        load(chain(16, CLASSES), path, allow_partial=True)


def test_rules(tmp_path: Path, refused: Any) -> None:
    """Names are renamed on either side, with groups, suffixes and graph names."""
    path = tmp_path / "saved"
    module = tf.Module()
    module.all = [
        tf.Variable(np.full(shape, number, np.float32), name=name)
        for number, (name, shape) in enumerate(
            {"net/body/kernel": (FEATURES, 16), "net/body/bias": (16,), "net/top/kernel": (16, 4), "net/top/bias": (4,)}
            .items()
        )
    ]  # fmt: skip
    tf.saved_model.save(module, str(path))

    def loaded(model: Any, **params: Any) -> list[float]:
        done = load(model, path, **params)
        assert {row.status for row in done.rows} == {"renamed"}
        return [float(variable.numpy().flat[0]) for variable in model.variables]

    order = [0.0, 1.0, 2.0, 3.0]
    assert loaded(chain(16, 4), rename=("net/body->dense", r"^net/(to)p->dense_1")) == order
    assert loaded(chain(16, 4, head="top"), rename_targets=(r"^dense/(.*)->net/body/\1", "^top->net/top")) == order
    assert loaded(chain(16, 4, head="top"), trim_graph_name=True, rename=("body->dense",)) == order
    model = chain(16, 4, head="top_new")
    rules = {"trim_graph_name": True, "rename_targets": ("^dense/->body_new/",), "add_suffix": "_new"}
    assert loaded(model, **rules) == order
    with refused(ParamsError):
        load(chain(16, 4), path, rename=("nothing->x",))
    with refused(ParamsError):
        load(chain(16, 4), path, rename=("body|top->x",))
    for rule in ("arrow", "(->x", r"a->\1"):
        with refused(ParamsError):
            WarmstartParams(rename=(rule,))


def test_names_that_tell_nothing(tmp_path: Path) -> None:
    """Variables of a SavedModel that share a name are matched by the attributes that hold them."""
    module = tf.Module()
    module.first, module.second = (tf.Variable(np.full((3,), each, np.float32), name="bias") for each in (1, 2))
    module.second = {"inner": module.second}
    tf.saved_model.save(module, str(tmp_path / "saved"))
    read = read_weights(find_artifact(tmp_path / "saved", WEIGHTS)).arrays
    assert {name: float(value[0]) for name, value in read.items()} == {"first": 1.0, "second/inner": 2.0}


def test_include_and_exclude(tmp_path: Path, refused: Any) -> None:
    """Only matching weights are loaded; an expression that matches nothing is an error."""
    path = saved(chain(16, CLASSES), "export", tmp_path)
    for params in ({"include": "dense/.*"}, {"exclude": "dense_1/.*"}):
        model = chain(16, CLASSES)
        done = load(model, path, **params)
        assert [status for _, status in statuses(done).values()] == ["loaded", "loaded", "skipped", "skipped"]
    with refused(ParamsError):
        load(chain(16, CLASSES), path, include="dens")
    with refused(ParamsError):
        load(chain(16, CLASSES), path, exclude=".*")


def test_longest_common_sequence() -> None:
    """Compared with all pairs of subsequences, the alignment is the only longest one, or None if there are several."""
    import itertools

    generator = np.random.default_rng(5)
    for _ in range(300):
        here, there = ([int(each) for each in generator.integers(0, 3, generator.integers(0, 6))] for _ in range(2))
        best: list[set[tuple[int, int]]] = [set()]
        for size in range(1, min(len(here), len(there)) + 1):
            ways = [
                set(zip(one, other, strict=True))
                for one in itertools.combinations(range(len(here)), size)
                for other in itertools.combinations(range(len(there)), size)
                if all(here[i] == there[j] for i, j in zip(one, other, strict=True))
            ]
            best = ways or best
        found = align([{"kernel": (each,)} for each in here], [{"kernel": (each,)} for each in there])
        assert (None if found is None else set(found)) == (best[0] if len(best) == 1 else None), (here, there)


class Notes(Reporter):
    """A listener that keeps the reports."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.done: WarmStart | None = None

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Keep the plan."""
        self.rows = dict(rows)

    def warm_start(self, done: WarmStart) -> None:
        """Keep the table."""
        self.done = done


def test_own_formats(make_trainer: Callable[..., Any], noisy_class: Any, tmp_path: Path) -> None:
    """Averaged weights and statistics of a run folder, best, export or checkpoint are loaded, seeds are not."""
    ema = ("--trainer.calc_ema", "0.5")
    first = make_trainer(noisy_class, *ema, output="first")
    first.fit()
    with first.engine.average.applied():
        averaged = values(first.model)
    folder = tmp_path / "first"
    step = max((folder / "checkpoint").iterdir())
    sources = {
        "best": folder / "best", "export": folder / "export", "checkpoint": folder / "checkpoint", "step": step,
        "run": folder,
    }  # fmt: skip
    assert find_artifact(folder, WEIGHTS).path == folder / "best"
    # Both epochs improved on the previous ones, so that all hold the same weights.
    assert first.state.monitor.best_epoch == 2
    for name, path in sources.items():
        notes = Notes()
        trainer = make_trainer(
            noisy_class, *ema, "--trainer.random_seed", "3", "--warmstart.model", str(path), reporter=notes
        )
        loaded = values(trainer.model)
        assert loaded.keys() == averaged.keys()
        for variable, value in loaded.items():
            np.testing.assert_array_equal(value, averaged[variable], err_msg=f"{name}: {variable}")
        for shadow, variable in zip(trainer.engine.average.shadows, trainer.model.trainable_variables, strict=True):
            np.testing.assert_array_equal(shadow.numpy(), variable.numpy())
        state = trainer.state.variables.read()
        assert state["optimizer/adam/iteration"] == 0
        seeds = [key for key in state if "seed_generator" in key]
        assert seeds
        assert all((state[key] != first.state.variables.read()[key]).any() for key in seeds)
    trainer.fit()
    assert notes.done is not None
    assert notes.rows["warm start"] == f"{folder / 'best'} (model): {len(averaged)} of {len(averaged)} variables loaded"
    assert "warm start" not in first_plan(make_trainer, noisy_class, step)


def first_plan(make_trainer: Callable[..., Any], scenario: Any, step: Path) -> dict[str, str]:
    """Return the plan of a resumed run whose parameters request a warm start."""
    notes = Notes()
    trainer = make_trainer(
        scenario, "--trainer.calc_ema", "0.5", "--warmstart.model", str(step), "--trainer.epochs", "3", reporter=notes
    )
    trainer.restore(step)
    trainer.fit()
    assert notes.done is None
    return notes.rows


@pytest.mark.parametrize("content", ["nothing", "folder", "text.keras", "text.weights.h5", "model.pkl"])
def test_a_path_without_weights_is_refused(content: str, tmp_path: Path, refused: Any) -> None:
    """The error lists the accepted paths before anything is read."""
    path = tmp_path / content
    if content == "folder":
        path.mkdir()
    elif content != "nothing":
        path.write_text("text")
    with refused(ParamsError):
        find_artifact(path, WEIGHTS)


def test_damaged_files_are_refused(tmp_path: Path, refused: Any) -> None:
    """Damage that only shows on reading is an error that also names the file."""
    path = saved(chain(16, CLASSES), "weights", tmp_path)
    path.write_bytes(path.read_bytes()[:600])
    with refused(ParamsError):
        load(chain(16, CLASSES), path)
    model = saved(chain(16, CLASSES), "export", tmp_path)
    (model / "variables" / "variables.index").write_bytes(b"nothing")
    with refused(ParamsError):
        load(chain(16, CLASSES), model)


def test_files_do_not_reach_outside(tmp_path: Path, refused: Any) -> None:
    """A weights file that links to another file is not followed."""
    (tmp_path / "secret.bin").write_bytes(bytes(4 * FEATURES * CLASSES))
    path = saved(chain(CLASSES), "weights", tmp_path)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        outside = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("layers/dense/vars/0", (FEATURES, CLASSES), "f4", external=outside)
    with refused(ParamsError):
        load(chain(CLASSES), path)


QUICK = (
    "train", "tutorial", "--trainer.epochs", "1", "--trainer.samples_per_epoch", "64", "--trainer.output_dir", "out",
)  # fmt: skip


def test_command_checks_the_path_first(run_aip: Callable[..., Any], tmp_path: Path) -> None:
    """A missing path is reported before TensorFlow is imported and anything is written."""
    result = run_aip(*QUICK, "--warmstart.model", "nowhere", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 2
    assert "--warmstart.model nowhere does not exist" in result.stderr
    assert "aipcore.training" in result.stderr
    assert not re.search(r"\btensorflow\b", result.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command_shows_the_table(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """The table is in the terminal, in the log file, and in an event of the JSON log."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(128, name="hidden"), layers.Dense(10, name="logits")])
    model.save(tmp_path / "m.keras")
    result = fork_aip(
        *QUICK, "--trainer.jit_compile", "off", "--warmstart.model", "m.keras", "--warmstart.rename",
        "hidden->hidden_1", "--json-log", "log.jsonl",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "warm start  m.keras (Keras file): 4 of 4 variables loaded, 2 of them renamed" in result.stdout
    line = "hidden_1/kernel  hidden/vars/0  64x128  renamed"
    assert line in result.stdout
    assert line in (tmp_path / "out" / "train.log").read_text()
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    event = next(each for each in events if each["event"] == "warm_start")
    assert event["variables"][0] == {
        "path": "hidden_1/kernel", "source": "hidden/vars/0", "shape": [64, 128], "source_shape": [64, 128],
        "status": "renamed", "adapted": None,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirror", "central_storage"])
def test_on_several_devices(strategy: str, tmp_path: Path) -> None:
    """Each device starts with the loaded weights and statistics."""
    keras.utils.clear_session(free_memory=False)
    model = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(16), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(4)]
    )
    distinct(model).save(tmp_path / "m.keras")
    code = """
        import sys
        import numpy as np
        from several_devices import NoisyBlobs, tf, trainer
        from aipcore.distributed.strategy import components
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        made = trainer(NoisyBlobs, None, "--device.strategy", sys.argv[1], "--warmstart.model", sys.argv[2],
                       "--trainer.calc_ema", "0.5")
        assert made.engine.distribution.replicas == 2
        found = {v.path: [p.numpy() for p in components(v)] for v in made.model.variables}
        found |= {"ema/" + v.name: [v.numpy()] for v in made.engine.average.shadows}
        np.savez(sys.argv[3], **{f"{n}@{i}": p for n, parts in found.items() for i, p in enumerate(parts)})
        made.fit()
    """
    forks.run(
        [sys.executable, "-c", textwrap.dedent(code), strategy, "m.keras", "found.npz"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ).check_returncode()  # fmt: skip
    trained = values(model)
    with np.load(tmp_path / "found.npz") as found:
        loaded = {name: found[name] for name in found if "seed" not in name}
    assert sum("moving_mean" in name for name in loaded) == (2 if strategy == "mirror" else 1)
    assert sum(name.startswith("ema/") for name in loaded) == 6
    for name, value in loaded.items():
        last = name.partition("@")[0].removesuffix(":0").rpartition("/")[2]
        same = [each for path, each in trained.items() if path.endswith(f"/{last}") and each.shape == value.shape]
        np.testing.assert_array_equal(value, same[0], err_msg=name)
