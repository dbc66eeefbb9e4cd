"""Errors in a scenario are reported in one sentence with the author's line, from Python and from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.errors import AipError, AuthorError, author_error
from aipcore.scenario import Evaluator, Histogram, PostProcessor, Processor, Sample, Scenario


class Base(Scenario):
    """A scenario that learns its first input."""

    defaults: ClassVar = {"trainer.epochs": 1, "trainer.tune": "off", "trainer.lav_every_n": 1, "optimizer": "SGD"}

    def train_data(self) -> Any:
        x = np.ones((8, 2), np.float32)
        return x, x[:, :1]

    val_data = train_data

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(inputs)

    def losses(self) -> Any:
        return "mse"


def fails(*arguments: Any) -> Any:
    """Fail at the line of the test."""
    return {}["key"]  # HERE


class Broken(Processor):
    """A scenario that fails."""

    process = fails


class Breaking(Evaluator):
    """An evaluator that fails."""

    update = fails


class Late(Evaluator):
    """A scenario that fails at the end of the first pass after the check."""

    passes = 0

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        pass

    def result(self) -> Any:
        type(self).passes += 1
        return fails() if self.passes > 1 else {}


class Layer(keras.layers.Layer):  # type: ignore[misc]
    """A layer that fails."""

    call = fails


def dense(*names: str) -> Any:
    """Return a `build` with layers of these names."""

    def build(self: Any, inputs: Any) -> Any:
        for name in names:
            inputs = keras.layers.Dense(1, name=name)(inputs)
        return inputs

    return build


def returns(value: Any, *arguments: str) -> Any:
    """Return a method that returns a value."""
    return eval(f"lambda {', '.join(('self', *arguments))}: value", {"value": value})


def text_targets(self: Any) -> Any:
    """Return targets that are text."""
    return np.ones((8, 2), np.float32), np.array(["a", "b"] * 4)


def model(self: Any, inputs: Any) -> Any:
    """Return a `build` that returns the model."""
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def classes(*, rows: bool, loss: Any, column: bool = False) -> dict[str, Any]:
    """Return parts of a scenario with 3 classes, whose targets are one-hot rows or class numbers."""
    ids = np.arange(8) % 3
    targets = np.eye(3, dtype=np.float32)[ids] if rows else ids[:, None] if column else ids
    return {
        "train_data": lambda self: (np.ones((8, 2), np.float32), targets),
        "val_data": returns(None),
        "build": lambda self, inputs: keras.layers.Dense(3, activation="softmax")(inputs),
        "losses": returns(loss),
    }


ROWS = (
    "^The loss sparse_categorical_crossentropy of Case takes class indices, but the targets are rows of 3 values, one "
    r"for each class. Use categorical_crossentropy, or turn the rows into indices: numpy.argmax\(targets, axis=-1\).$"
)
NUMBERS = (
    "^The loss categorical_crossentropy of Case takes a row of 3 values for each target, but the targets are class "
    "indices. Use sparse_categorical_crossentropy, or turn the indices into rows: "
    r"keras.utils.to_categorical\(targets, 3\).$"
)
LINE = rf"{re.escape(__file__)}, line \d+, in fails"
FAILED = rf"{LINE}: KeyError: 'key'"
WITHIN = rf"KeyError: 'key' \({LINE}\)"

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "train_data": ({"train_data": fails}, FAILED),
    "val_data": ({"val_data": fails}, FAILED),
    "lav_data": ({"lav_data": fails}, FAILED),
    "lav_data's type": ({"lav_data": returns([1])}, r"Case.lav_data\(\) returned list. Return a mapping"),
    "processors": ({"processors": fails}, FAILED),
    "a processor": ({"processors": returns([Broken()])}, rf"Broken failed on sample 0 of .*: {WITHIN}\. Fix"),
    "reading": ({"train_data": lambda self: (fails() for _ in range(3))}, rf"failed at sample 0: {WITHIN}"),
    "build": ({"build": fails}, rf"build\(\) does not accept the inputs of the data \(inputs \(2,\) .*: {WITHIN}"),
    "a layer": ({"build": lambda self, inputs: Layer()(inputs)}, rf"build\(\) does not accept .* \({LINE}\)"),
    "build's type": ({"build": returns(3, "inputs")}, r"build\(\) \(.*, line \d+\) returned a value of type int"),
    "a list": ({"build": returns([1], "inputs")}, r"returned a list. Return a tensor, or a mapping from the name"),
    "no output": ({"build": returns({}, "inputs")}, "returned an empty dict. Return a tensor, or a mapping"),
    "nothing": ({"build": returns(None, "inputs")}, "returned None. Return the outputs that it computes"),
    "a model": ({"build": model}, r"returned a keras.Model. Return its outputs: return model\(inputs\)"),
    "a model by name": ({"build": lambda self, i: {"y": model(self, i)}}, "for the output 'y', a keras.Model"),
    "a sequential model": ({"build": lambda self, i: keras.Sequential()}, "returned a keras.Model"),
    "a layer object": ({"build": lambda self, i: keras.layers.Dense(1)}, "returned the layer Dense. Call it on a"),
    "a layer class": ({"build": lambda self, i: {"y": keras.layers.Dense}}, "'y', the layer Dense. Call it on a"),
    "an array": ({"build": lambda self, i: np.ones(3)}, "returned a value of type ndarray. Return a tensor that Keras"),
    "one-hot rows": (classes(rows=True, loss="sparse_categorical_crossentropy"), ROWS),
    "one-hot rows for an object": (classes(rows=True, loss=keras.losses.SparseCategoricalCrossentropy()), ROWS),
    "class numbers": (classes(rows=False, loss="categorical_crossentropy"), NUMBERS),
    "a column of class numbers": (classes(rows=False, loss="categorical_crossentropy", column=True), NUMBERS),
    "class numbers for another loss": (classes(rows=False, loss="kl_divergence"), "The loss kl_divergence of Case"),
    "no path": ({"build": lambda self, inputs: keras.Input((2,))}, r"errors.py, line \d+\) returned outputs that"),
    "two layers": (
        {"build": dense("d", "d")},
        r"build\(\) \(.*test_author_errors.py, line \d+\) gives two layers the name 'd'. Give each layer a unique",
    ),
    "a layer's name": ({"build": dense("my layer")}, "gives a layer the name 'my layer', which Tens"),
    "build_prediction": ({"build_prediction": fails}, FAILED),
    "losses": ({"losses": fails}, FAILED),
    "loss function": ({"losses": returns(lambda target, output: fails())}, rf"The losses of Case cannot .*{WITHIN}"),
    "loss name": ({"losses": returns("binary_crossentropi")}, r"losses\(\): Keras has no loss .* binary_crossentropy"),
    "no loss": ({"losses": returns(None)}, r"Case.losses\(\) returned no loss"),
    "text": ({"train_data": text_targets}, r"target of Case.train_data\(\) is a string, which Keras losses do not"),
    "text as classes": (
        {"train_data": text_targets, "losses": returns("sparse_categorical_crossentropy")},
        "is a string, which Keras losses do not accept. Convert it to a number",
    ),
    "post_processors": ({"post_processors": fails}, FAILED),
    "a post-processor": ({"post_processors": returns([Broken])}, r"post_processors\(\) has the class Broken as a"),
    "loss_values": ({"loss_values": fails}, rf"The losses of Case cannot .*{WITHIN}"),
    "metrics": ({"metrics": fails}, FAILED),
    "metric name": ({"metrics": returns(["accurasy"])}, r"Case.metrics\(\): Keras has no metric .* mean accuracy\?"),
    "evaluator": ({"evaluator": fails}, FAILED),
    "evaluator's type": ({"evaluator": returns(3)}, "returned int. Return an Evaluator"),
    "update": ({"evaluator": lambda self: Breaking()}, rf"The evaluator Breaking of Case fails .*{WITHIN}"),
    "result": ({"evaluator": lambda self: Late()}, FAILED),
    "a class attribute": ({"params_clas": Evaluator}, "Case defines params_clas, .* Did you mean params_class"),
    "a name": ({"metric": returns([])}, r"Case defines metric\(\), which aip does not use"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_mistakes(name: str, make_trainer: Any) -> None:
    """Each mistake is an `AipError` of one line."""
    names, message = CASES[name]
    with pytest.raises(AipError) as caught:
        make_trainer(type("Case", (Base,), names)).fit()
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert "report" not in str(caught.value)


def test_the_original_is_kept(make_trainer: Any) -> None:
    """The error is chained to the author's exception, whose traceback has the line."""
    with pytest.raises(AuthorError) as caught:
        make_trainer(type("Case", (Base,), {"losses": fails}))
    assert isinstance(caught.value.__cause__, KeyError)
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# HERE"))
    assert f"line {line}, in fails" in str(caught.value)


def test_summaries_and_workers(make_trainer: Any, refused: Any) -> None:
    """Errors in summaries, and in a processor in a worker process, are reported."""
    summaries = {"summaries": lambda self, inputs, targets, outputs, meta: [Histogram("h", fails())]}
    with refused(AuthorError):
        make_trainer(type("Case", (Base,), summaries), output="summaries").fit()
    with refused(AipError):
        make_trainer(type("Case", (Base,), {"processors": returns([Broken()])}), "--data.workers", "1").fit()


class Small(keras.layers.Layer):  # type: ignore[misc]
    """A layer that asserts in the graph that its inputs are small."""

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        with tf.control_dependencies([tf.debugging.assert_less(inputs, 0.5)] if inputs.shape[0] is None else []):
            return tf.identity(inputs)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def test_an_operation_of_the_graph(make_trainer: Any, refused: Any) -> None:
    """A failure inside a compiled step names the line that created the operation."""
    names = {"build": lambda self, inputs: keras.layers.Dense(1)(Small(name="small")(inputs))}
    trainer = make_trainer(type("Case", (Base,), names), "--trainer.skip_sanity_check")
    with refused(AuthorError):
        trainer.fit()


@pytest.mark.parametrize("eager", ["False", "True"])
def test_a_layer_of_keras(eager: str, make_trainer: Any, refused: Any) -> None:
    """A failure in a layer of Keras is also a failure of the model."""

    def build(self: Any, inputs: Any) -> Any:
        return keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Embedding(1, 2, name="embed")(inputs[:, :4])))

    def train_data(self: Any) -> Any:
        return np.eye(8, dtype=np.float32)[:, ::-1], np.zeros((8, 1), np.float32)

    words = ("--trainer.force_eager", eager, "--train.batch_size", "4", "--train.shuffle", "no")
    with refused(AuthorError):
        make_trainer(
            type("Case", (Base,), {"build": build, "train_data": train_data, "val_data": returns(None)}), *words
        ).fit()


def test_not_the_authors() -> None:
    """An exception without a line of the author, or of a program that calls aip, is not the author's."""
    with pytest.raises(TypeError) as caught:
        Sample(nothing=1)  # type: ignore[call-arg]
    assert author_error(caught.value) is None


def test_post_processor(refused: Any) -> None:
    """A failing post-processor is named."""
    from aipcore.data.processor import post_process

    class Post(PostProcessor):
        process = fails

    with refused(AipError):
        post_process([Post()], {"": 1}, None)


SOURCE = """
from aipcore.scenario import Scenario

class Case(Scenario):
    BODY
"""

FILES = {
    "check": ("def check(self): return {}['key']", "line 5, in check: KeyError: 'key'. --debug shows the traceback."),
    "derived_params": ("def derived_params(self): raise OSError('x')", "line 5, in derived_params: OSError: x"),
    "__init__": ("def __init__(self, params): self.x = params.nothing", "line 5, in __init__: AttributeError: 'Sc"),
    "import": ("x = {}['key']", "one.py, line 5, in Case: KeyError: 'key'. --debug shows the traceback."),
    "name": ("def metric(self): return []", "Case defines metric(), which aip does not use."),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_before_tensorflow(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reports errors that need no TensorFlow before it is imported."""
    body, message = FILES[name]
    path = tmp_path / "one.py"
    path.write_text(SOURCE.replace("BODY", body))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert main(["train", str(path)]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "__pycache__") == ["one.py"]
