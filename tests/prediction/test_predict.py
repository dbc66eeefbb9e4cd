"""`aip predict` and the `Predictor`: predictions by one model or by several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.errors import DataError, ScenarioError, UsageError
from aipcore.params import Layer, resolve
from aipcore.prediction import Predictor, read_predictions
from aipcore.prediction.locate import RECORDED, given_params
from aipcore.prediction.params import applied_params_class
from aipcore.scenario.list_file import ListFileScenario


def stored(path: Path) -> dict[str, Any]:
    """Return all arrays of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", ["points", "steps"])
def test_predict_equals_the_dump_of_lav(request: Any, lav: Any, tmp_path: Path, name: str) -> None:
    """The same samples give the same bits as the dump, padded or not, and the same evaluation."""
    run = request.getfixturevalue(name)
    dump, predictions = tmp_path / "dump.npz", tmp_path / "predictions.npz"
    expected = lav(str(run.folder), "--dump", str(dump))[""]
    limited = tmp_path / "limited.jsonl"
    assert main(["predict", str(run.folder), "--trust", "--val.limit", "3", "--output", str(limited)]) == 0
    assert len(limited.read_text().splitlines()) == 3
    assert main(["predict", str(run.folder), "--trust", "--targets", "--output", str(predictions)]) == 0
    ours, theirs = stored(predictions), stored(dump)
    columns = [column for column in theirs if column.partition("/")[0] in ("outputs", "targets", "masks")]
    assert len(columns) >= 2
    for column in columns:
        np.testing.assert_array_equal(ours[column], theirs[column])
    found = lav(str(predictions), command="evaluate")[""]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("command", ["lav", "predict"])
def test_saved_predictions_are_those_of_the_predictor(points: Any, tmp_path: Path, command: str) -> None:
    """Saved predictions of both commands are read with the outputs, targets and meta of the predictor."""
    path = tmp_path / "saved.npz"
    words = ["--dump", str(path)] if command == "lav" else ["--targets", "--output", str(path)]
    assert main([command, str(points.folder), "--trust", *words]) == 0
    scenario, found = read_predictions(path, trust=True)
    predictor = Predictor.load(points.folder, trust=True)
    expected = list(predictor.predict_data(targets=True))
    assert type(scenario).__name__ == type(predictor.scenario).__name__
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.index, ours.meta) == (theirs.index, theirs.meta)
        assert ours.outputs == {**theirs.outputs, "logit": pytest.approx(theirs.outputs["logit"], rel=1e-5)}
        np.testing.assert_allclose(ours.raw[""], theirs.raw[""], rtol=1e-5, atol=1e-6)
        assert {name: value.tolist() for name, value in (ours.targets or {}).items()} == {
            name: value.tolist() for name, value in (theirs.targets or {}).items()
        }


def test_predictor_processes_before_and_after(points: Any) -> None:
    """Inputs are doubled and outputs get a name from the resource; raw arrays are left unchanged."""
    predictor = Predictor.load(points.folder / "best", trust=True)
    inputs = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    raw = predictor.predict_raw(inputs * 2)
    assert raw.shape == (5, 4)
    for batch_size in (1, 2, 32):
        found = list(predictor.predict(inputs, batch_size=batch_size))
        assert [each.index for each in found] == list(range(5))
        np.testing.assert_allclose(np.stack([each.raw[""] for each in found]), raw, rtol=1e-5, atol=1e-6)
        names = ["north", "east", "south", "west"]
        assert [each.outputs["class"] for each in found] == [names[best] for best in raw.argmax(-1)]


def test_the_given_limit_applies_to_any_data(points: Any) -> None:
    """A limit given for the prediction applies if the scenario overrides `predict_data`; a recorded one does not."""
    points_class: Any = type(Predictor.load(points.folder, trust=True).scenario)

    class Own(points_class):  # type: ignore[misc]
        def predict_data(self) -> Any:
            return self.val_data()

    def predicted(**given: int) -> int:
        params = {f"val.{name}": value for name, value in given.items()}
        return len(list(Predictor.load(points.folder, scenario=Own, params=params).predict_data()))

    assert (predicted(), predicted(limit=2)) == (61, 2)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("lav", ["--data.files", "a"], "--data.files has no effect in aip lav"),
        ("lav", ["--val.lists", "c"], "--val.lists has no effect in aip lav with"),
        ("predict", ["--data.files", "a", "--val.lists", "b"], "--val.lists has no effect in aip predict with"),
    ],
)
def test_options_of_files_without_effect(command: str, words: list[str], message: str) -> None:
    """An option of a scenario of files that selects no data of the command is refused, but a recorded one is not."""
    recorded = Layer.from_mapping(RECORDED, {"val.lists": ["b"], "lav.lists": ["b"], "data.files": ["a"]})
    params = applied_params_class(ListFileScenario.params_class)
    assert given_params(resolve(params, [recorded]), ListFileScenario, command) == frozenset()
    with pytest.raises(UsageError, match=message):
        given_params(resolve(params, [recorded, Layer.from_arguments(words)]), ListFileScenario, command)


def test_predict_is_lazy(points: Any) -> None:
    """Samples are read on demand, so that an endless stream can be predicted."""
    predictor = Predictor.load(points.folder / "best", trust=True)

    def endless() -> Any:
        while True:
            yield np.zeros(12, np.float32)

    answers = predictor.predict(endless(), batch_size=4)
    assert [next(answers).index for _ in range(6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("part", ["best", "checkpoint"])
def test_sequences_are_padded_and_cut(steps: Any, part: str) -> None:
    """A sequence among longer ones has the same outputs as alone: its padding is masked, and cut off the outputs."""
    predictor = Predictor.load(steps.folder / part, trust=True)
    generator = np.random.default_rng(0)
    samples = [{"x": generator.normal(size=(length, 3)).astype(np.float32)} for length in (3, 8, 5)]
    samples[2]["x"][:2] = 0
    together = list(predictor.predict(samples))
    for sample, answer in zip(samples, together, strict=True):
        (alone,) = predictor.predict([sample])
        length = len(sample["x"])
        assert answer.raw["y"].shape == (8, 2)
        assert answer.masks["y"].tolist() == [bool(step.any()) for step in sample["x"]] + [False] * (8 - length)
        assert answer.outputs["y"].shape == (length, 2)
        np.testing.assert_allclose(answer.outputs["y"], alone.outputs["y"], rtol=1e-5, atol=1e-6)
    assert predictor.padded() == ""


def test_lines_of_sequences_are_as_long_as_the_sequences(steps: Any, tmp_path: Path, capsys: Any) -> None:
    """The file and the terminal have the outputs of the model for the sample's own steps."""
    from aipcore.prediction.writers import write_predictions

    output = tmp_path / "lines.jsonl"
    assert main(["predict", str(steps.folder), "--trust", "--output", str(output)]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    generator = np.random.default_rng(2)
    for line in lines:
        length = int(generator.integers(2, 9))
        generator.normal(size=(length, 3))
        assert np.shape(line["outputs"]["y"]) == (length, 2)
        assert "masks" not in line
    assert len(lines) == 37
    assert "has no mask" not in capsys.readouterr().err
    # A step of zeros inside a sequence is masked too: it stays, and the line includes the mask.
    inner = np.ones((4, 3), np.float32)
    inner[1] = 0
    predictor = Predictor.load(steps.folder, trust=True)
    write_predictions(output, predictor.predict([{"x": inner}, {"x": np.ones((6, 3), np.float32)}]), {})
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert lines[0]["masks"] == {"y": [True, False, True, True]}
    assert len(lines[0]["outputs"]["y"]) == 4
    assert "masks" not in lines[1]


def test_masked_ends_are_cut() -> None:
    """Only masked ends are cut; masks of other shapes are ignored, and a fully masked sample becomes empty."""
    from aipcore.prediction.data import cut_masked_end

    values = np.arange(8).reshape(4, 2)
    assert cut_masked_end(values, None) is values
    assert cut_masked_end(values, np.array([True])) is values
    assert cut_masked_end(values, np.array(True)) is values
    assert cut_masked_end(values, np.array([False, True, False, False])).tolist() == [[0, 1], [2, 3]]
    assert cut_masked_end(values, np.array([[0, 0], [0, 0], [1, 0], [0, 0]], bool)).tolist() == values[:3].tolist()
    assert cut_masked_end(values, np.zeros(4, bool)).shape == (0, 2)


def test_warning_about_outputs_without_a_mask(train: Any, capsys: Any, masked_source: str) -> None:
    """If no mask marks the padding, aip predict warns, since the model cannot recognise it either."""
    run = train(masked_source.replace("layers.Masking()(inputs['x'])", "inputs['x']"), "--trainer.epochs", "1")
    capsys.readouterr()
    assert main(["predict", str(run.folder), "--trust"]) == 0
    assert "The output y has no mask, so a sequence that is padded in its batch gets" in capsys.readouterr().err
    assert main(["predict", str(run.folder), "--trust", "--val.batch_size", "1"]) == 0
    assert "no mask" not in capsys.readouterr().err


def test_an_output_without_a_name(capsys: Any) -> None:
    """In a pipe, a single output without a name is labelled, like the column of the table."""
    from aipcore.cli.tables import show_predictions
    from aipcore.console import Console
    from aipcore.prediction.predictor import Prediction

    show_predictions(Console(), [Prediction(index=3, outputs={"": np.array([0.25, 0.75])}, raw={})])
    assert capsys.readouterr().out == "3\toutput=[0.25 0.75]\n"


def test_predict_dataset_takes_processed_samples(points: Any) -> None:
    """A dataset is passed to the model unchanged."""
    from aipcore.data.pipeline import Pipeline

    predictor = Predictor.load(points.folder / "best", trust=True)
    inputs = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    dataset = Pipeline((inputs, np.arange(5))).dataset()
    found = list(predictor.predict_dataset(dataset, batch_size=2, targets=True))
    np.testing.assert_allclose([each.raw[""] for each in found], predictor.predict_raw(inputs), rtol=1e-5, atol=1e-6)
    assert [int(each.targets[""]) for each in found if each.targets] == list(range(5))


def test_checkpoint_predicts_like_the_export(points: Any) -> None:
    """The model built from the newest checkpoint has the same outputs as the exported one."""
    inputs = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    one, other = (Predictor.load(points.folder / name, trust=True) for name in ("checkpoint", "export"))
    np.testing.assert_allclose(one.predict_raw(inputs), other.predict_raw(inputs), rtol=1e-5, atol=1e-6)


def test_models_vote_with_the_mean(points: Any) -> None:
    """Two checkpoints give the mean of both outputs."""
    older, newer = sorted((points.folder / "checkpoint").glob("step-*"))
    inputs = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    single = [Predictor.load(path, trust=True).predict_raw(inputs).astype(np.float64) for path in (older, newer)]
    both = Predictor.load([older, newer], trust=True)
    assert np.abs(single[0] - single[1]).max() > 1e-3
    np.testing.assert_allclose(both.predict_raw(inputs), (single[0] + single[1]) / 2, rtol=1e-6, atol=1e-6)
    answers = np.stack([each.raw[""] for each in both.predict(inputs / 2)])
    np.testing.assert_allclose(answers, both.predict_raw(inputs), rtol=1e-5, atol=1e-6)


def test_models_that_process_otherwise_vote(train: Any, dense_source: str, points: Any) -> None:
    """Each model gets samples with its own preprocessing."""
    triple = train(dense_source.replace("sample.inputs * 2", "sample.inputs * 3"), "--trainer.epochs", "1")
    paths = [points.folder / "best", triple.folder / "best"]
    inputs = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    one, other = (
        Predictor.load(path, trust=True).predict_raw(inputs * n) for path, n in zip(paths, (2, 3), strict=True)
    )
    answers = np.stack([each.raw[""] for each in Predictor.load(paths, trust=True).predict(inputs)])
    np.testing.assert_allclose(answers, (one + other) / 2, rtol=1e-5, atol=1e-6)


def test_a_scenario_may_vote_itself(points: Any, refused: Any) -> None:
    """`Scenario.vote` takes precedence, and must return every output."""
    from aipcore.prediction.ensemble import vote
    from aipcore.scenario import Scenario

    class Loudest(Scenario):
        def vote(self, outputs: Any) -> Any:
            return {"": np.maximum(*(each[""] for each in outputs))}

    class Odd(Scenario):
        def vote(self, outputs: Any) -> Any:
            return {"other": outputs[0][""]}

    answers = [{"": np.array([[1, 5]])}, {"": np.array([[3, 2]])}]
    assert vote(Loudest(None), answers)[""].tolist() == [[3, 5]]
    with refused(ScenarioError):
        vote(Odd(None), answers)
    with refused(ScenarioError):
        vote(Scenario(None), answers)
    with refused(UsageError):
        vote(Scenario(None), [{"": np.zeros((1, 3))}, {"": np.zeros((1, 2))}])


def test_models_with_other_names_cannot_vote(points: Any, steps: Any, refused: Any) -> None:
    """The error names the differing names and the model."""
    with refused(UsageError):
        Predictor.load([points.folder / "best", steps.folder / "best"], trust=True)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((2, 11), np.float32),
        {"x": np.zeros((2, 12))},
    ],
)
def test_arrays_that_do_not_fit(points: Any, inputs: Any, refused: Any) -> None:
    """The error has the expected and the given inputs."""
    with refused(DataError):
        Predictor.load(points.folder / "best", trust=True).predict_raw(inputs)


def test_a_sample_that_cannot_be_processed_is_named(points: Any, refused: Any) -> None:
    """The error names the sample's index and meta, and the processor."""
    from aipcore.scenario import Sample

    predictor = Predictor.load(points.folder / "best", trust=True)
    samples = [Sample(inputs=np.zeros(12, np.float32)), Sample(inputs="text", meta={"path": "b.png"})]
    with refused(DataError):
        list(predictor.predict(samples))


def test_files_of_the_tutorial(digits: Any, tmp_path: Path, capsys: Any) -> None:
    """Images and arrays, found by a glob pattern, are scaled to the size of the digits and predicted in order."""
    from aip_plugins.scenarios.tutorial.datasets import load
    from PIL import Image

    images, labels = load("digits")[1]
    for number in range(3):
        pixels = np.kron(np.round(images[number] * 255).astype(np.uint8), np.ones((4, 4), np.uint8))
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    np.save(tmp_path / "3.npy", images[3])
    output = tmp_path / "found.jsonl"
    files = ["--data.files", str(tmp_path / "*.png"), str(tmp_path / "3.npy")]
    assert main(["predict", str(digits.folder), *files, "--output", str(output)]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    names = [Path(line["meta"]["path"]).name for line in lines]
    assert names == ["0.png", "1.png", "2.png", "3.npy"]
    direct = Predictor.load(digits.folder).predict_raw({"image": images[:4]})["digit"]
    assert [line["outputs"]["digit"] for line in lines] == direct.argmax(-1).tolist()
    exponentials = np.exp(direct - direct.max(-1, keepdims=True))
    expected = (exponentials / exponentials.sum(-1, keepdims=True)).max(-1)
    assert [line["outputs"]["probability"] for line in lines] == pytest.approx(expected.tolist(), abs=0.02)
    capsys.readouterr()
    assert main(["predict", str(digits.folder), *files]) == 0
    assert capsys.readouterr().out.splitlines()[3].startswith(f"{tmp_path / '3.npy'}\tdigit=")
    del labels


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no image", "bad.png is not an image in a known format"), (None, "bad.png matches no file")],
)
def test_files_that_cannot_be_read(
    digits: Any, tmp_path: Path, capsys: Any, content: bytes | None, message: str
) -> None:
    """A broken file and a missing one are named."""
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    assert main(["predict", str(digits.folder), "--data.files", str(tmp_path / "bad.png")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_predictions_of_all_kinds_are_stored(tmp_path: Path, suffix: str) -> None:
    """Numbers, text, lists and arrays of several shapes are restored, sample by sample."""
    from aipcore.prediction.saved_predictions import Stored, read_stored, write_stored

    columns = {
        "predictions/text": ["a", "übel", ""],
        "predictions/number": [1.5, float("nan"), float("-inf")],
        "predictions/boxes": [[{"x": 1, "label": "a"}], [], [{"x": 2, "label": "b"}]],
        "predictions/flag": [True, False, True],
        "outputs/": [np.zeros((2, 3), np.float32), np.ones((0, 3), np.float32), np.ones((1, 3), np.float32)],
        "outputs/words": [np.array([b"x", b"y"]), np.array([b"z", b"zz"]), np.array([b"", b""])],
        "targets/y": [np.int32(3), np.int32(4), np.int32(5)],
    }
    made = Stored(about={"scenario": {"name": "x"}}, columns=columns)
    for index in range(3):
        made.add_sample(index=index, batch=index // 2, meta={"path": Path("x") / str(index)}, penalty=0.5)
    path = tmp_path / f"stored{suffix}"
    write_stored(path, made)
    found = read_stored(path)
    assert found.about == made.about
    assert (found.index, found.batch, found.penalty) == ([0, 1, 2], [0, 0, 1], [0.5] * 3)
    assert [json.loads(text) for text in found.meta] == [{"path": f"x/{index}"} for index in range(3)]
    assert [str(each) for each in found.columns["predictions/text"]] == columns["predictions/text"]
    np.testing.assert_array_equal(found.columns["predictions/number"], columns["predictions/number"])
    assert [json.loads(str(each)) for each in found.columns["predictions/boxes"]] == columns["predictions/boxes"]
    for name in ("outputs/", "predictions/flag", "targets/y"):
        for ours, theirs in zip(found.columns[name], columns[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert [each.tolist() for each in found.columns["outputs/words"]] == [["x", "y"], ["z", "zz"], ["", ""]]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_evaluate_refuses_other_files(tmp_path: Path, capsys: Any, suffix: str) -> None:
    """Another file is refused in one sentence, and one with pickled objects is not read."""
    path = tmp_path / f"other{suffix}"
    path.write_bytes(b"PK\x03\x04 not really")
    assert main(["evaluate", str(path)]) == 2
    assert "or it is damaged" in capsys.readouterr().err
    if suffix == ".npz":
        np.savez(path, aip=np.array([{"a": 1}], dtype=object))
        assert main(["evaluate", str(path)]) == 2
        assert "or it is damaged" in capsys.readouterr().err


def test_moved_model_predicts_the_same(points: Any, words_file: Path, tmp_path: Path) -> None:
    """A copy in another place needs neither the run nor the file that a parameter named."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(points.folder / "best", moved)
    hidden = words_file.rename(words_file.with_suffix(".hidden"))
    try:
        predictor = Predictor.load(moved, trust=True)
        assert predictor.scenario.params.data.words == moved / "resources" / "words.txt"
        (answer,) = predictor.predict([np.zeros(12, np.float32)])
        assert answer.outputs["class"] in ("north", "east", "south", "west")
    finally:
        hidden.rename(words_file)
