"""Cross-validation: each fold equals a run by hand; it is resumed exactly, votes, and is scored out of fold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import forks
import keras
import numpy as np
import pytest

import aipcore as aip
from aipcore.cli.main import main
from aipcore.data.folds import divided
from aipcore.errors import AuthorError, DataError, ParamsError, UsageError
from aipcore.prediction.locate import find_models
from aipcore.prediction.out_of_fold import are_folds, score_out_of_fold
from aipcore.prediction.predictor import load_voter
from aipcore.scenario import Scenario, ScenarioParams
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.reporter import Reporter
from aipcore.training.runs import read_run

QUICK: dict[str, Any] = {
    "trainer": {
        "epochs": 2, "random_seed": 5, "force_eager": True, "skip_sanity_check": True, "export_best": False,
        "export_final": False, "optimizer": "SGD",
    },
    "train.batch_size": 8,
    "data.workers": 0,
}  # fmt: skip


def points() -> tuple[Any, Any]:
    """Return points of three classes of different sizes."""
    random = np.random.default_rng(1)
    labels = random.choice(3, 60, p=[0.5, 0.3, 0.2])
    return (random.normal(size=(60, 4)) + labels[:, None]).astype(np.float32), labels


class Points(Scenario):
    """Classification of the points. Its own validation data is not used by folds."""

    monitor = ("max", "accuracy")

    def train_data(self) -> Any:
        return points()

    def val_data(self) -> Any:
        inputs, labels = points()
        return inputs[:7], labels[:7]

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(3)(keras.layers.Dropout(0.2)(inputs))

    def losses(self) -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class ByHand(Points):
    """One fold, as an author would write it. The fold is the number of the class's attribute."""

    fold = 0

    def _part(self, *, held: bool) -> Any:
        inputs, labels = points()
        part = (divided(60, 3, seed=5, labels=labels) == self.fold) == held
        return inputs[part], labels[part]

    def train_data(self) -> Any:
        return self._part(held=False)

    def val_data(self) -> Any:
        return self._part(held=True)


class Failing(Reporter):
    """Ends training in an epoch of a fold, as an error would."""

    def __init__(self, at: int) -> None:
        self.left = at

    def epoch_ended(self, report: Any) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("The cable was pulled.")


def outcome(folder: Path) -> dict[str, Any]:
    """Return the variables and the logs in the last checkpoint of each fold."""
    found: dict[str, Any] = {}
    for fold in sorted(folder.glob("fold-*")):
        checkpoint = read_checkpoint(newest_checkpoint(fold / "checkpoint"))
        found[fold.name] = {name: array.tobytes() for name, array in checkpoint.arrays.items()}
        found[fold.name]["history"] = checkpoint.progress["history"]
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return the folder and the result of three folds. Their models are those of the last checkpoints."""
    folder = tmp_path_factory.mktemp("folds") / "points"
    return folder, aip.train(Points, {**QUICK, "trainer.folds": 3}, folder, quiet=True)


def test_folds_equal_runs_by_hand(trained: tuple[Path, Any]) -> None:
    """Each fold is bit-identical to a run on data that was divided by hand. Mean and deviation are recorded."""
    folder, result = trained
    by_hand = []
    for fold in range(3):
        cls = type("ByHand", (ByHand,), {"fold": fold, "__module__": __name__})
        by_hand.append(aip.train(cls, QUICK, folder.parent / f"hand-{fold}", quiet=True).history)
    assert [each.history for each in result.folds] == by_hand
    best = [history[each.best_epoch - 1] for history, each in zip(by_hand, result.folds, strict=True)]
    for name in ("loss", "val_accuracy", "val_loss"):
        values = [logs[name] for logs in best]
        assert result.mean[name] == pytest.approx(np.mean(values), abs=1e-12)
        assert result.deviation[name] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    recorded = json.loads((folder / "run.json").read_text())["result"]
    assert (recorded["mean"], recorded["deviation"]) == (result.mean, result.deviation)
    assert (result.status, len(result.folds), result.best) == ("finished", 3, result.mean["val_accuracy"])
    run = read_run(folder)
    assert (run.kind, run.state, run.epochs, run.best) == ("folds", "finished", 3, pytest.approx(result.best))


def test_models_of_folds_vote(trained: tuple[Path, Any]) -> None:
    """The folder of a cross-validation predicts with the mean of all folds."""
    folder, _ = trained
    inputs, _ = points()
    single = [aip.Predictor.load(folder / f"fold-{fold}", scenario=Points).predict_raw(inputs) for fold in (1, 2, 3)]
    joint = aip.Predictor.load(folder, scenario=Points)
    np.testing.assert_allclose(joint.predict_raw(inputs), np.mean(single, axis=0), rtol=1e-6)


def test_out_of_fold_scores(trained: tuple[Path, Any]) -> None:
    """Each sample is scored by the model that was not trained on it, and each fold as in its training."""
    folder, result = trained
    inputs, labels = points()
    assigned = divided(60, 3, seed=5, labels=labels)
    outputs = np.zeros((60, 3))
    voters = []
    for fold, model in enumerate(find_models(folder)):
        voters.append(load_voter(model, Points(ScenarioParams())))
        held = assigned == fold
        outputs[held] = aip.Predictor([voters[-1]]).predict_raw(inputs[held])
    assert are_folds(voters)
    assert not are_folds(voters[:2])
    (score,), skipped = score_out_of_fold(voters)
    expected = (outputs.argmax(axis=1) == labels).mean()
    losses = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(60), labels]
    assert (score.samples, skipped) == (60, [])
    assert list(score.parts) == list(score.models)
    assert sum(score.parts.values()) == 60
    assert score.values["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert score.values["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    in_training = [each.history[-1]["val_accuracy"] for each in result.folds]
    assert [values["accuracy"] for values in score.models.values()] == pytest.approx(in_training, abs=1e-6)


@pytest.mark.slow
def test_resume_after_an_error(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    """A cross-validation that ended in its second fold is resumed exactly; the finished fold is not touched."""
    whole, _ = trained
    folder = tmp_path / "points"
    with pytest.raises(AuthorError, match="cable"):
        aip.train(Points, {**QUICK, "trainer.folds": 3}, folder, reporter=Failing(3), quiet=True)
    assert sorted(path.name for path in folder.glob("fold-*")) == ["fold-1", "fold-2"]
    assert read_run(folder).state == "failed"
    failed = read_run(folder / "fold-2")
    assert (failed.state, failed.epochs) == ("failed", 0)
    assert "The cable was pulled." in failed.reason
    with pytest.raises(UsageError, match="fold-3 is missing"):
        find_models(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "fold-1").rglob("*")}
    with pytest.raises(UsageError, match=r"trainer\.folds cannot change"):
        aip.resume(folder, {"trainer.folds": 4}, scenario=Points, quiet=True)
    result = aip.resume(folder, scenario=Points, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in (folder / "fold-1").rglob("*")} == before
    assert outcome(folder) == outcome(whole)
    assert (result.status, len(result.folds)) == ("finished", 3)
    longer = aip.resume(folder, {"trainer.epochs": 3}, scenario=Points, quiet=True)
    assert [each.epochs for each in longer.folds] == [3, 3, 3]
    assert json.loads((folder / "params.json").read_text())["trainer"]["epochs"] == 3


def test_steps_of_folds(tmp_path: Path) -> None:
    """Folds with `max_steps` are finished, and count with the validation of their best model, also within an epoch."""
    steps = {"epochs": 9, "max_steps": 6, "val_every_steps": 3}
    given = {**QUICK, "trainer": {**QUICK["trainer"], "folds": 2, **steps}, "learning_rate.lr": 0.3}
    result = aip.train(Points, given, tmp_path / "points", quiet=True)
    assert (result.status, read_run(tmp_path / "points").state) == ("finished", "finished")
    assert [(each.epochs, each.updates) for each in result.folds] == [(2, 6)] * 2
    best = []
    for each in result.folds:
        assert [row["step"] for row in each.validations] == [3, 6]
        best += [row for row in each.validations if row["step"] == each.best_step]
        assert best[-1]["val_accuracy"] == each.best == max(row["val_accuracy"] for row in each.validations)
    assert result.best == pytest.approx(np.mean([each.best for each in result.folds]))
    assert result.mean["val_loss"] == pytest.approx(np.mean([row["val_loss"] for row in best]))


def test_resume_after_an_interrupted_change(tmp_path: Path) -> None:
    """Parameters that were changed when folds were resumed apply to all folds, also if that was interrupted."""
    folder, given = tmp_path / "points", {**QUICK, "trainer": {**QUICK["trainer"], "folds": 2, "epochs": 1}}
    aip.train(Points, given, folder, quiet=True)
    with pytest.raises(AuthorError, match="cable"):
        aip.resume(folder, {"trainer.epochs": 2}, scenario=Points, reporter=Failing(1), quiet=True)
    result = aip.resume(folder, scenario=Points, quiet=True)
    assert [each.epochs for each in result.folds] == [2, 2]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/**/*")}
    assert aip.resume(folder, scenario=Points, quiet=True).mean == result.mean
    assert {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/**/*")} == before


def test_folds_start_with_the_weights_of_folds(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    """With a warm start from a cross-validation, each fold starts with the weights of the same fold."""
    source, _ = trained
    unseeded = {name: value for name, value in QUICK["trainer"].items() if name != "random_seed"}
    given = {**QUICK, "trainer": {**unseeded, "epochs": 1, "folds": 3, "warmstart": {"model": str(source)}}}
    joint = aip.train(Points, given, tmp_path / "joint", quiet=True)
    assert json.loads((tmp_path / "joint/run.json").read_text())["seed"] == 5
    by_hand = {**given["trainer"], "random_seed": 5, "fold": 2, "warmstart": {"model": str(source / "fold-2")}}
    single = aip.train(Points, {**given, "trainer": by_hand}, tmp_path / "single", quiet=True)
    assert joint.folds[1].history == single.history
    # A fold that has not started when the cross-validation is resumed has its warm start too.
    failed = tmp_path / "failed"
    with pytest.raises(AuthorError, match="cable"):
        aip.train(Points, given, failed, reporter=Failing(1), quiet=True)
    assert [each.history for each in aip.resume(failed, scenario=Points, quiet=True).folds] == [
        each.history for each in joint.folds
    ]
    for changed, text in (({"folds": 2}, "trainer.folds 3, but this one has 2"), ({"random_seed": 6}, "random_seed 5")):
        wrong = {**given, "trainer": {**given["trainer"], **changed}}
        with pytest.raises(ParamsError, match=text):
            aip.train(Points, wrong, tmp_path / "out", quiet=True)
        assert not (tmp_path / "out").exists()


def test_warm_start_without_a_checkpoint(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    """A run that was killed before its first checkpoint is resumed with its warm start."""
    source = str(trained[0] / "fold-1")
    given = {**QUICK, "trainer": {**QUICK["trainer"], "epochs": 1, "warmstart": {"model": source}}}
    whole = aip.train(Points, given, tmp_path / "points", quiet=True)
    shutil.rmtree(tmp_path / "points/checkpoint")
    assert aip.resume(tmp_path / "points", scenario=Points, quiet=True).history == whole.history


def test_impossible_folds(tmp_path: Path) -> None:
    """Contradicting parameters and streams are refused, and no folder remains."""

    class Local(Points):
        """A class that no other process can import."""

    class Streamed(Points):
        """Points without an index."""

        def train_data(self) -> Any:
            import tensorflow as tf

            return tf.data.Dataset.from_tensor_slices(points())

    for cls, given, error, text in (
        (Points, {"fold": 1}, ParamsError, "needs --trainer.folds"),
        (Points, {"folds_by": "patient"}, ParamsError, "folds_by has no effect without --trainer.folds"),
        (Points, {"fold_processes": 2}, ParamsError, "fold_processes has no effect without --trainer.folds"),
        (Points, {"early_stopping.min_delta": 0.1}, ParamsError, "has no effect without --early_stopping.n_to_go"),
        (Points, {"folds": 3, "fold": 4}, ParamsError, "is above --trainer.folds"),
        (Points, {"folds": 3, "fold": 1, "random_seed": None}, ParamsError, "needs --trainer.random_seed"),
        (Local, {"folds": 3, "fold_processes": 2}, UsageError, "other processes can import"),
        (Points, {"folds": 99}, DataError, "fewer than the 99 folds"),
        (Streamed, {"folds": 3}, DataError, "is a stream"),
    ):
        with pytest.raises(error, match=text):
            aip.train(cls, {**QUICK, "trainer": {**QUICK["trainer"], **given}}, tmp_path / "out", quiet=True)
        assert not (tmp_path / "out").exists()
    with pytest.raises(ParamsError, match="trains several runs"):
        aip.Trainer.from_scenario(Points, {**QUICK, "trainer.folds": 3})


WORDS = (
    "--trainer.folds", "3", "--trainer.epochs", "6", "--trainer.random_seed", "3", "--trainer.tune", "off",
    "--trainer.jit_compile", "off", "--trainer.export_final", "False", "--checkpoint.every_steps", "5", "-q",
)  # fmt: skip
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


def aip_process(*words: str, cwd: Path) -> forks.Forked:
    """Start `aip`."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    return forks.start([*AIP, *words], cwd=cwd, env=environment, stderr=forks.STDOUT, children=True)


def finished(process: forks.Forked, code: int = 0) -> str:
    """Wait for `aip` and return its output."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the outcome of an uninterrupted cross-validation."""
    folder = tmp_path_factory.mktemp("whole")
    finished(aip_process("train", "tutorial", *WORDS, "--trainer.output_dir", "whole", cwd=folder))
    return outcome(folder / "whole")


@pytest.mark.slow
def test_kill_in_the_third_fold(whole: dict[str, Any], tmp_path: Path) -> None:
    """A cross-validation killed in the middle of fold 3 and resumed, or trained in processes, is bit-identical."""
    killed = aip_process("train", "tutorial", *WORDS, "--trainer.output_dir", "killed", cwd=tmp_path)
    while not len(list((tmp_path / "killed/fold-3").glob("checkpoint/step-*"))) > 1:
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    before = {
        path: path.stat().st_mtime_ns for fold in (1, 2) for path in (tmp_path / f"killed/fold-{fold}").rglob("*")
    }
    finished(aip_process("resume", "killed", "-q", cwd=tmp_path))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert outcome(tmp_path / "killed") == whole
    scores = finished(aip_process("lav", "killed", cwd=tmp_path))
    assert "out of fold\tsamples" in scores
    assert "Mean and standard deviation of 3 folds" in scores


@pytest.mark.slow
def test_folds_in_processes(whole: dict[str, Any], tmp_path: Path) -> None:
    """Folds in two processes, interrupted and resumed, are bit-identical to folds one after another."""
    words = (*WORDS, "--trainer.output_dir", "parallel", "--trainer.fold_processes", "2")
    parallel = aip_process("train", "tutorial", *words, cwd=tmp_path)
    while not list((tmp_path / "parallel").glob("fold-*/checkpoint/step-*")):
        assert parallel.poll() is None, parallel.communicate()[0]
        time.sleep(0.02)
    parallel.send_signal(signal.SIGINT)
    finished(parallel, 130)
    assert json.loads((tmp_path / "parallel/run.json").read_text())["result"]["status"] == "interrupted"
    assert "Mean and standard deviation" in finished(aip_process("resume", "parallel", cwd=tmp_path))
    assert outcome(tmp_path / "parallel") == whole


def test_commands(
    trained: tuple[Path, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aip runs` shows a cross-validation as one run with its folds."""
    monkeypatch.chdir(trained[0].parent)
    assert main(["runs", "show", "points"]) == 0
    text = capsys.readouterr().out
    assert "3/3 folds" in text
    assert "points/fold-2" in text
    assert main(["runs", "points", "-q"]) == 0
    assert len(capsys.readouterr().out.split()) == 3
