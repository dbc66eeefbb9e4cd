"""Votes on results: models with different parameters, inputs and outputs vote after post-processing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.errors import ScenarioError
from aipcore.prediction import Predictor
from aipcore.prediction.ensemble import Answer, joint_results
from aipcore.prediction.evaluate_saved import score_stored
from aipcore.prediction.saved_predictions import Stored
from aipcore.scenario import Evaluator, Mode, PostProcessor, Scenario, ScenarioParams

SOURCE = '''
"""Names the largest of some numbers. Each model knows some names, and reads only the numbers of these."""

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import DataParams, Evaluator, PostProcessor, Processor, Sample, Scenario, ScenarioParams

NAMES = ("ada", "bob", "cy", "dan")


@params
class Data(DataParams):
    names: tuple[str, ...] = field(NAMES, help="Known names.")


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="Names.")


class Known(Processor):
    def __init__(self, names):
        self.names = names

    def process(self, sample):
        numbers = sample.inputs[[NAMES.index(name) for name in self.names]]
        truth = str(sample.targets)
        right = np.int32(self.names.index(truth) + 1 if truth in self.names else 0)
        targets = None if sample.targets is None else right
        return Sample(inputs={"numbers": numbers}, targets=targets, meta={"truth": truth})


class Name(PostProcessor):
    def __init__(self, names):
        self.names = names

    def process(self, outputs, meta):
        best = int(outputs[""].argmax())
        return {"name": ("nobody", *self.names)[best], "score": float(outputs[""][best])}


class Counter(Evaluator):
    def __init__(self):
        self.right = []

    def update(self, targets, outputs, meta):
        self.right += (outputs[""].argmax(-1) == targets[""]).tolist()

    def update_results(self, targets, results, meta):
        self.right += [str(result["name"]) == each["truth"] for result, each in zip(results, meta, strict=True)]

    def result(self):
        return {"share": float(np.mean(self.right))}

    def report(self):
        return f"{sum(self.right)} are right."


class Names(Scenario):
    """Names the largest number."""

    params_class = Params
    defaults = {"trainer.epochs": 1, "trainer.random_seed": 3, "trainer.jit_compile": "off", "val.batch_size": 8}

    def samples(self, number, seed):
        numbers = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
        return [Sample(inputs=row, targets=np.array(NAMES[row.argmax()])) for row in numbers]

    def train_data(self):
        return self.samples(40, 1)

    def val_data(self):
        return self.samples(21, 2)

    def processors(self):
        return [Known(self.params.data.names)]

    def post_processors(self):
        return [Name(self.params.data.names)]

    def build(self, inputs):
        from keras import layers

        return layers.Dense(len(self.params.data.names) + 1)(inputs["numbers"])

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def evaluator(self):
        return Counter()

    def describe(self, targets, outputs):
        return "", outputs["name"]

    def vote_results(self, answers):
        best = max(answers, key=lambda answer: answer["score"])
        return {"name": best["name"], "score": best["score"], "models": len(answers)}
'''


@pytest.fixture(scope="module")
def models(train: Any) -> list[str]:
    """Return two models with inputs and outputs of different sizes."""
    names = (["bob", "ada", "cy"], ["dan", "cy"])
    return [str(train(SOURCE, "--data.names", *each).folder / "export") for each in names]


def test_results_are_voted_for(models: list[str], tmp_path: Path) -> None:
    """Each model predicts with its own parameters, and the scenario votes on what they predict."""
    single = [list(Predictor.load(model, trust=True).predict_data()) for model in models]
    joint = Predictor.load(models, trust=True)
    found = list(joint.predict_data(batch_size=6))
    assert len(found) == 21
    expected = [max(pair, key=lambda each: each["score"]) for pair in zip(*map(outputs_of, single), strict=True)]
    for each, best in zip(found, expected, strict=True):
        assert each.outputs["name"] == best["name"]
        assert each.outputs["score"] == pytest.approx(best["score"], abs=1e-6)
        assert (each.outputs["models"], each.raw, each.masks) == (2, {}, {})
    assert {each.outputs["name"] for each in found} > {"dan", "bob"}
    samples = [sample.inputs for sample in joint.scenario.val_data()]
    assert outputs_of(joint.predict(samples, batch_size=6)) == outputs_of(found)


def outputs_of(predictions: Any) -> list[dict[str, Any]]:
    """Return the outputs of predictions."""
    return [each.outputs for each in predictions]


def test_results_are_scored(models: list[str], lav: Any, tmp_path: Path, capsys: Any) -> None:
    """The evaluator scores the joint results; dumps and predictions with targets are scored to the same values."""
    alone = [lav(model)[""] for model in models]
    dump, predictions = tmp_path / "dump.npz", tmp_path / "predictions.parquet"
    capsys.readouterr()
    found = lav(*models, "--dump", str(dump), "--lav.show_samples", "2")[""]
    said = capsys.readouterr().out
    predicted = outputs_of(Predictor.load(models, trust=True).predict_data())
    truth = [str(sample.targets) for sample in Predictor.load(models[0], trust=True).scenario.val_data()]
    right = [each["name"] == name for each, name in zip(predicted, truth, strict=True)]
    assert found == {"share": pytest.approx(np.mean(right))}
    assert f"{sum(right)} are right." in said
    assert "Losses and metrics of the vote are left out, because the models vote on results." in said
    assert f"sample 20: target , prediction {predicted[20]['name']}" in said
    scores = json.loads((tmp_path / "scores.json").read_text())["lists"][0]
    assert scores["models"] == {model: pytest.approx(values) for model, values in zip(models, alone, strict=True)}
    words = ["predict", *models, "--trust", "--targets", "--val.batch_size", "8", "--output", str(predictions)]
    assert main(words) == 0
    for file in (dump, predictions):
        assert lav(str(file), command="evaluate")[""] == found


class Steps(Scenario):
    """A scenario whose models vote on the sum of their steps."""

    def vote_results(self, answers: Any) -> Any:
        return {"sums": [each["sum"] for each in answers]}


class Sum(PostProcessor):
    """Returns the sum of an output and the meta."""

    def process(self, outputs: Any, meta: Any) -> Any:
        return {"sum": float(outputs["y"].sum()) + meta}


def answer(cls: type[Scenario], values: list[float], mask: list[bool], meta: float) -> Any:
    """Return the outputs of a model for a batch of one sequence."""
    member: Any = SimpleNamespace(scenario=cls(ScenarioParams()), post=[Sum()])
    masks = {"y": np.array([mask])} if mask else {}
    return Answer(member=member, outputs={"y": np.array([values])}, masks=masks, meta=[meta])


def test_each_model_has_its_own_mask_and_meta() -> None:
    """The masked end is cut off for each model, and its post-processors get the meta of its processors."""
    answers = [answer(Steps, [1, 2, 4], [True, True, False], 0), answer(Steps, [8, 16], [True, False], 100)]
    assert list(joint_results(answers, Mode.PREDICTION)) == [({"sums": [3, 108]}, {}, {})]
    single, raw, masks = next(joint_results(answers[:1], Mode.PREDICTION))
    assert (single, raw["y"].tolist(), masks["y"].tolist()) == ({"sum": 3}, [1, 2, 4], [True, True, False])


def test_faults_of_the_author(models: list[str], refused: Any) -> None:
    """A vote without a result, and evaluators that cannot score results, are named."""

    class Nothing(Steps):
        def vote_results(self, answers: Any) -> Any:
            return None

    class Old(Evaluator):
        def update(self, targets: Any, outputs: Any, meta: Any) -> None:
            pass

        def result(self) -> dict[str, float]:
            return {}

    class Unscored(Steps):
        def evaluator(self) -> Any:
            return Old()

    with refused(ScenarioError):
        list(joint_results([answer(Nothing, [1], [], 0)] * 2, Mode.PREDICTION))
    stored = Stored(about={}, index=[0], lists=[""], batch=[0], meta=[""], penalty=[0.0])
    stored.columns = {"targets/y": [np.ones(1)], "predictions/sums": [np.ones(2)]}
    for cls in (Steps, Unscored):
        with refused(ScenarioError):
            score_stored(stored, cls(ScenarioParams()))
