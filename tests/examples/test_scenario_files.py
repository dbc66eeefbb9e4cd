"""The examples of one file each learn, and show their features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, resolve
from aipcore.scenario.loader import load_scenario
from aipcore.scenario.scenario import Scenario
from aipcore.training.params import run_params_class

EXAMPLES = Path(__file__).parents[2] / "examples"


def train(output: Path, example: str, *words: str) -> list[dict[str, float]]:
    """Run `aip train` in this process; return the values of each epoch."""
    log = output.with_suffix(".jsonl")
    command = ["train", str(EXAMPLES / example), "--trainer.output_dir", str(output), "--json-log", str(log), "--quiet"]
    command += ["--trainer.random_seed", "1", "--trainer.jit_compile", "off", "--trainer.export_final", "False"]
    assert main([*command, *words]) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [event["logs"] for event in events if event["event"] == "epoch"]


def made(example: str, *words: str) -> Scenario:
    """Return the scenario with its parameters, not trained."""
    plugins = get_plugin_manager()
    cls = load_scenario(str(EXAMPLES / example), names=[], find=lambda _: None).cls
    layers = [Layer.from_mapping("scenario", cls.defaults), Layer.from_arguments(words)]
    return cls(resolve(run_params_class(cls.params_class), layers, plugins).value)


def variables(output: Path) -> dict[str, int]:
    """Return the shapes of the variables of a run's best model, by path."""
    import tensorflow as tf

    names = json.loads((output / "best" / "aip.json").read_text())["variables"]
    reader = tf.train.load_checkpoint(str(output / "best" / "variables" / "variables"))
    return {
        name: reader.get_variable_to_shape_map()[f"state/{number}/.ATTRIBUTES/VARIABLE_VALUE"]
        for number, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("words", "path", "shape"),
    [
        pytest.param("Recurrent --model.layer.size 24", "down/gru_cell/kernel", [8, 3 * 24], marks=pytest.mark.slow),
        ("Convolution --model.layer.rows 2", "filters/kernel", [2, 8, 32]),
        pytest.param("Attention --model.layer.heads 4", "attention/query/kernel", [8, 4, 8], marks=pytest.mark.slow),
    ],
)
def test_parametrised_layer(words: str, path: str, shape: list[int], tmp_path: Path) -> None:
    """Each layer reads most of the digits, and has the requested size."""
    run = tmp_path / "run"
    enough = ("--trainer.epochs", "6", "--early_stopping.upper_threshold", "0.91")
    epochs = train(run, "parametrised_layer.py", "--model.layer", *words.split(), *enough)
    assert epochs[-1]["val_accuracy"] > 0.9
    assert variables(run)[path] == shape


def test_polymorphic_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two variants learn, and the base cannot be selected."""
    name = "polymorphic_scenarios.py"
    epochs = train(tmp_path / "a", f"{name}:InsideOrOutside", "--data.curve", "Star", "--trainer.epochs", "8")
    assert epochs[-1]["val_accuracy"] > 0.93
    epochs = train(tmp_path / "b", f"{name}:Distance", "--data.curve", "Circle", "--trainer.epochs", "6")
    assert epochs[-1]["val_loss"] < 0.1
    assert main(["train", str(EXAMPLES / name)]) == 2
    assert "contains 2 scenarios. Choose" in capsys.readouterr().err


def test_curves() -> None:
    """A star of depth 0.4 has radii from 0.6 to 1.4, a circle a constant one, and points have the right side."""
    angles = np.linspace(-np.pi, np.pi, 361)
    star = made("polymorphic_scenarios.py:Distance", "--data.curve", "Star").params.data.curve.params.radius_at(angles)
    np.testing.assert_allclose([star.min(), star.max()], [0.6, 1.4], atol=1e-9)
    scenario = made("polymorphic_scenarios.py:InsideOrOutside", "--data.curve", "Circle", "--data.curve.radius", "0.5")
    points, inside = scenario.train_data()
    np.testing.assert_array_equal(inside[:, 0] == 1, np.hypot(*points.T) < 0.5)


def test_static_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model has the classes and scale of a table, and names classes without the table."""
    random = np.random.default_rng(0)
    rows = [f"{random.normal(mean, 5):.3f},{random.normal(0, 1):.3f},{name}" for mean, name in
            [(1000, "tall"), (1100, "taller"), (1200, "tallest")] * 50]  # fmt: skip
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    run = tmp_path / "run"
    epochs = train(run, "static_parameters.py", "--data.table", str(table))
    assert epochs[-1]["accuracy"] > 0.98
    data = json.loads((run / "best" / "aip.json").read_text())["params"]["data"]
    assert data["classes"] == ["tall", "taller", "tallest"]
    numbers = np.array([[float(each) for each in row.split(",")[:2]] for row in rows])
    np.testing.assert_allclose([data["mean"], data["deviation"]], [numbers.mean(axis=0), numbers.std(axis=0)])
    table.unlink()
    from aipcore.prediction import Predictor

    predictor = Predictor.load(str(run), trust=True)
    found = [each.outputs["class"] for each in predictor.predict(np.float32([[1001, 0], [1099, 1], [1203, -1]]))]
    assert found == ["tall", "taller", "tallest"]
    capsys.readouterr()


def test_generated_data(tmp_path: Path) -> None:
    """The length, with a mean deviation of 45 cm, is learned from samples that differ in each epoch."""
    words = ["--data.swings", "300", "--data.steps", "1600", "--data.workers", "0", "--trainer.epochs", "6"]
    epochs = train(tmp_path / "run", "generated_data.py", *words)
    assert min(epoch["val_error"] for epoch in epochs) < 0.2


def test_generator_is_a_function_of_seed_epoch_and_index() -> None:
    """Epochs differ, any sample can be made alone, and another seed gives others."""
    from aipcore.data.pipeline import Pipeline

    scenario = made("generated_data.py", "--data.swings", "4", "--data.noise", "0")

    def samples(epoch: int, seed: int = 1) -> list[Any]:
        pipeline = Pipeline(scenario.train_data(), scenario.processors(), seed=seed)
        return list(pipeline.samples(epoch))

    first = samples(0)
    for again, other in zip(samples(0), samples(1), strict=True):
        assert not np.array_equal(again.inputs, other.inputs)
    np.testing.assert_array_equal([each.inputs for each in samples(0)], [each.inputs for each in first])
    assert first[0].targets != samples(0, seed=2)[0].targets
    assert len({float(each.targets[0]) for each in first}) == 4


def test_simulation_has_the_period_of_theory() -> None:
    """The period is 2 pi sqrt(length / g), and up to 15 % more for angles up to 1.5."""
    from aipcore.scenario import Sample

    swing = made("generated_data.py").processors()[0]
    for seed in range(5):
        sample = swing.process(Sample(inputs=0), np.random.default_rng(seed))
        crossings = np.flatnonzero(np.diff(np.sign(sample.inputs[:, 0])))
        period = 2 * np.diff(crossings).mean() / 1000
        assert 1 < period / (2 * np.pi * np.sqrt(sample.targets[0] / 9.81)) < 1.16


@pytest.mark.parametrize("mix", ["Mixup", pytest.param("CutMix", marks=pytest.mark.slow)])
def test_mixup(mix: str, tmp_path: Path) -> None:
    """Digits that were never mixed are classified after training on mixtures."""
    words = ["--data.mix", mix, "--data.workers", "0", "--trainer.epochs", "4", "--trainer.export_best", "False"]
    words += ["--early_stopping.upper_threshold", "0.91"]
    epochs = train(tmp_path / "run", "mixup.py", *words)
    assert epochs[-1]["val_accuracy"] > 0.9


def test_mixtures() -> None:
    """Mixup is the weighted mean of two samples; in CutMix, the class has the share of its pixels."""
    from aipcore.data.pipeline import Pipeline
    from aipcore.scenario import Sample

    first, second = ((np.full((8, 6), number, np.float32), np.eye(2, dtype=np.float32)[number]) for number in (0, 1))
    samples = [Sample(inputs=image, targets=target) for image, target in (first, second)]
    shares, rectangles = [], []
    for name in ("Mixup", "CutMix"):
        pipeline = Pipeline(samples, made("mixup.py", "--data.mix", name).processors(), seed=1, workers=0)
        for epoch in range(50):
            for own, sample in enumerate(pipeline.samples(epoch)):
                assert sample.inputs.dtype == sample.targets.dtype == np.float32
                np.testing.assert_allclose(sample.targets, [1 - sample.inputs.mean(), sample.inputs.mean()], atol=1e-6)
                shares.append(sample.targets[own])
                if name == "Mixup":
                    assert np.ptp(sample.inputs) == 0
                else:
                    cut = sample.inputs == 1 - own
                    np.testing.assert_array_equal(cut, np.outer(cut.any(axis=1), cut.any(axis=0)))
                    rectangles.append(cut.sum())
    assert 0.4 < np.mean(shares[:100]) < 0.6
    assert len(set(rectangles)) > 10


@pytest.mark.slow
def test_two_graphs(tmp_path: Path) -> None:
    """Whole numerals are right if the decoder reads its own letters; the exported model only takes digits."""
    run = tmp_path / "run"
    epochs = train(run, "two_graphs.py", "--trainer.epochs", "2")
    assert epochs[-1]["lav_whole_numerals"] > 0.9
    import tensorflow as tf

    served = tf.saved_model.load(str(run / "best")).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"digits"}
    from aipcore.prediction import Predictor

    predictor = Predictor.load(str(run), trust=True, params={"data.numbers": [1984, 2026]})
    assert [each.outputs["numeral"] for each in predictor.predict_data()] == ["MCMLXXXIV", "MMXXVI"]


def test_table_columns(tmp_path: Path) -> None:
    """The model learns the rents, and a CSV file with more columns in another order is predicted like the arrays."""
    run, flats = tmp_path / "run", tmp_path / "flats.csv"
    epochs = train(run, "table_columns.py", "--trainer.epochs", "8")
    assert epochs[-1]["val_loss"] < 15
    columns, _ = made("table_columns.py").val_data()
    rows = zip(columns["year"], columns["rooms"], columns["area"], strict=True)
    flats.write_text("year,name,rooms,area\n" + "".join(f"{year},x,{rooms},{area}\n" for year, rooms, area in rows))
    found = []
    for words in ([], ["--data.files", str(flats)]):
        output = tmp_path / "rents.csv"
        assert main(["predict", str(run), "--trust", "--output", str(output), *words]) == 0
        found.append(output.read_text())
    assert found[0] == found[1]
    assert found[0].splitlines()[0] == "index,rent"
    assert len(found[0].splitlines()) == 301
