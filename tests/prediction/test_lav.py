"""`aip lav` gives the same values on the validation data as training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aipcore.cli.main import main


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    """Assert that every expected value is present, to 1e-6."""
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_best_gives_the_printed_numbers(points: Any, lav: Any) -> None:
    """Loss with three penalties, and accuracy, are those of averaged weights."""
    close(lav(str(points.folder / "best"))[""], points.validated(points.best))


def test_export_and_checkpoint_give_those_of_the_last_epoch(points: Any, lav: Any) -> None:
    """The final model and the newest checkpoint, with averaged weights, give the values of the last epoch."""
    for name in ("export", "checkpoint"):
        close(lav(str(points.folder / name))[""], points.validated(-1))
    older = min((points.folder / "checkpoint").glob("step-*"))
    close(lav(str(older))[""], points.validated(-2))


def test_masked_outputs_give_the_printed_loss(steps: Any, lav: Any) -> None:
    """The mask of the padding reaches the loss, although a signature does not include it."""
    close(lav(str(steps.folder / "export"))[""], steps.validated(-1))


def test_run_folder_means_best(points: Any, lav: Any, tmp_path: Path) -> None:
    """A run folder stands for its best model, else its export, else its newest checkpoint."""
    copy = tmp_path / "copy"
    shutil.copytree(points.folder, copy)
    close(lav(str(copy))[""], points.validated(points.best))
    shutil.rmtree(copy / "best")
    close(lav(str(copy))[""], points.validated(-1))
    shutil.rmtree(copy / "export")
    close(lav(str(copy))[""], points.validated(-1))


def test_scores_validation_and_not_training_data(points: Any, lav: Any, capsys: Any) -> None:
    """Trap of the predecessor: the 61 validation samples are scored, not the 150 training samples."""
    values = lav(str(points.folder / "best"))[""]
    assert values["seen"] == 61
    out = capsys.readouterr().out
    assert "samples\t61\n" in out
    assert f"{round(values['share'] * 61)} are right." in out


def test_parameters_change_the_data(points: Any, lav: Any) -> None:
    """With less noise the accuracy is higher; with the original noise the values are those of training."""
    noisy, clear = (lav(str(points.folder / "best"), "--data.noise", noise)[""] for noise in ("1.0", "0.01"))
    close(noisy, points.validated(points.best))
    assert clear["accuracy"] > noisy["accuracy"]


def test_eager_gives_the_same(points: Any, lav: Any) -> None:
    """Eager execution gives the same values."""
    close(lav(str(points.folder / "best"), "--eager")[""], points.validated(points.best))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "sgd"], "--optimizer has no effect in aip lav, since the model is already trained"),
        (["--trainer.epochs", "3"], "--trainer.epochs has no effect in aip lav"),
        (["--train.batch_size", "3"], "--train.batch_size has no effect in aip lav"),
        (["--data.nose", "3"], "There is no option --data.nose; did you mean --data.noise?"),
        (["--dump", "x.pkl"], "--dump x.pkl is not allowed. The file must end in .npz or .parquet."),
    ],
)
def test_invalid_options(points: Any, capsys: Any, words: list[str], message: str) -> None:
    """Options without an effect, and unknown ones, are errors."""
    assert main(["lav", str(points.folder), "--trust", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("name", ["points", "steps"])
def test_evaluate_of_a_dump_equals_lav(request: Any, lav: Any, tmp_path: Path, name: str, suffix: str) -> None:
    """A dump is enough for losses with penalties and masks, metrics, and evaluator results."""
    run = request.getfixturevalue(name)
    dump = tmp_path / f"dump{suffix}"
    expected = lav(str(run.folder / "best"), "--dump", str(dump))[""]
    found = lav(str(dump), command="evaluate")[""]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_dump_holds_targets_outputs_and_meta(points: Any, lav: Any, tmp_path: Path) -> None:
    """NumPy reads the dump without unpickling, sample by sample in the order of the data."""
    import json

    import numpy as np

    dump = tmp_path / "dump.npz"
    lav(str(points.folder / "best"), "--dump", str(dump))
    with np.load(dump, allow_pickle=False) as stored:
        assert stored["targets/"].shape == (61,)
        assert stored["outputs/"].shape == (61, 4)
        assert stored["index"].tolist() == list(range(61))
        assert [json.loads(text)["number"] for text in stored["meta"]] == list(range(61))
        assert not any(array.dtype.hasobject for array in (stored[name] for name in stored.files))


LISTS = """
    def lav_data(self):
        return {"near": self.samples(20, 5, 0.1), "far": self.samples(33, 6, 2.0)}

    def evaluator(self):
"""


def test_several_lists(train: Any, dense_source: str, lav: Any, tmp_path: Path) -> None:
    """Each list has separate results, also from a dump."""
    run = train(dense_source.replace("    def evaluator(self):\n", LISTS), "--trainer.lav_every_n", "1")
    dump = tmp_path / "dump.npz"
    found = lav(str(run.folder / "export"), "--dump", str(dump))
    assert list(found) == ["near", "far"]
    assert (found["near"]["seen"], found["far"]["seen"]) == (20, 33)
    for name, values in found.items():
        logged = run.history[-1]
        assert values == pytest.approx({key: logged[f"lav_{name}_{key}"] for key in values}, rel=1e-6, abs=1e-6)
    for name, values in lav(str(dump), command="evaluate").items():
        assert values == pytest.approx(found[name], rel=1e-6, abs=1e-6)


@pytest.fixture(scope="module")
def jury(points: Any, train: Any, dense_source: str, words_file: Path) -> list[str]:
    """Return two models of one scenario with different weights, and different copies of the resource."""
    other = train(dense_source, "--trainer.random_seed", "8", "--data.words", str(words_file))
    return [str(points.folder / "best"), str(other.folder / "export")]


def test_several_models_vote(jury: list[str], lav: Any, tmp_path: Path, capsys: Any) -> None:
    """Metrics, evaluator and loss equal NumPy's for the mean of the outputs; each model has its own scores."""
    import json

    import numpy as np

    alone = [lav(model)[""] for model in jury]
    dumps = [tmp_path / f"{number}.npz" for number in range(3)]
    for model, dump in zip(jury, dumps, strict=False):
        lav(model, "--dump", str(dump))
    capsys.readouterr()
    together = lav(*jury, "--dump", str(dumps[2]))[""]
    said = capsys.readouterr().out
    with np.load(dumps[0]) as one, np.load(dumps[1]) as two, np.load(dumps[2]) as both:
        logits = (one["outputs/"].astype(np.float64) + two["outputs/"]) / 2
        right = one["targets/"]
        np.testing.assert_allclose(both["outputs/"], logits, rtol=1e-6, atol=1e-6)
    share = float(np.mean(logits.argmax(-1) == right))
    likelihoods = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(right)), right]
    assert together["accuracy"] == pytest.approx(share)
    assert together["share"] == pytest.approx(share)
    assert together["loss"] == pytest.approx(likelihoods.mean(), rel=1e-5)
    assert "without the penalties of the models' regularizers." in said
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["models"] == jury
    for model, values in zip(jury, alone, strict=True):
        close(scores["lists"][0]["models"][model], values)
        assert f"{model}\taccuracy\t" in said
    again = lav(str(dumps[2]), command="evaluate")[""]
    assert again == pytest.approx(together, rel=1e-6, abs=1e-6)
    assert lav(*jury, "--val.limit", "5")[""]["seen"] == 5
    assert lav(*jury, "--val.limit", "5", "--lav.limit", "4")[""]["seen"] == 4


def test_masks_of_models_that_vote(steps: Any, lav: Any) -> None:
    """The loss of a vote excludes the padding, as shown by the vote of a model with itself."""
    best = str(steps.folder / "export")
    close(lav(best, best)[""], steps.validated(-1))


def test_votes_that_are_refused(jury: list[str], steps: Any, digits: Any, capsys: Any) -> None:
    """Models of other scenarios or outputs, and options without an effect, are refused."""
    for words, message in (
        ([jury[0], str(digits.folder)], "has the scenario tutorial, but"),
        ([jury[0], str(steps.folder)], "has the inputs x, but"),
        ([*jury, "--eager"], "--eager has no effect on models that vote"),
    ):
        assert main(["lav", *words, "--trust"]) == 2
        assert message in capsys.readouterr().err


def test_samples_to_print(points: Any, jury: list[str], lav: Any, tmp_path: Path, capsys: Any) -> None:
    """The first and the last sample are printed with their class after post-processing, also for votes and dumps."""
    import json

    from aipcore.prediction import Predictor

    predicted = list(Predictor.load(jury[0], trust=True).predict_data())
    names = {index: predicted[index].outputs["class"] for index in (0, 60)}
    capsys.readouterr()
    dump = tmp_path / "dump.npz"
    for words in ([jury[0], "--dump", str(dump)], [jury[0], jury[0]]):
        lav(*words, "--lav.show_samples", "2")
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sample ")]
        assert [line.split(":")[0] for line in said] == ["sample 0", "sample 60"]
        for line, name in zip(said, names.values(), strict=True):
            assert name in line.partition("prediction")[2]
    shown = json.loads((tmp_path / "scores.json").read_text())["lists"][0]["shown"]
    assert [each["index"] for each in shown] == [0, 60]
    lav(str(dump), command="evaluate")
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("sample ")] == said
