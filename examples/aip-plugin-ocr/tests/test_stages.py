"""Training in two stages: the parameters of both, refused options, exact resume, folds, and a report on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aip_plugin_ocr.stages.command import command, second_params
from click.testing import CliRunner

from aipcore.errors import UsageError

TINY = (
    "--data.printed_lines", "16", "--data.height", "16", "--model.layers", "conv=4,pool=2x2,lstm=8",
    "--train.batch_size", "4", "--trainer.epochs", "2", "--trainer.tune", "off", "--trainer.jit_compile", "off",
    "--trainer.skip_sanity_check", "True", "--data.workers", "0", "--trainer.random_seed", "3", "--quiet",
)  # fmt: skip


def aip(*words: Any) -> int:
    """Run `aip` in this process."""
    (script,) = entry_points(group="console_scripts", name="aip")
    code: int = script.load()([str(word) for word in words])
    return code


def write_run(folder: Path, **trainer: Any) -> None:
    """Write the records of a run."""
    folder.mkdir(parents=True)
    warmstart = {"model": "public", "rename": ["a->b"]}
    params = {"data": {"augment": True, "height": 48}, "trainer": {"warmstart": warmstart, "epochs": 7, **trainer}}
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "run.json").write_text(json.dumps({"seed": 11, "params": params, "working_dir": "/elsewhere"}))


@pytest.mark.parametrize(("folds", "model"), [(None, "stage-1/best"), (5, "stage-1")])
def test_parameters_of_stage_2(tmp_path: Path, folds: int | None, model: str) -> None:
    """Stage 2 has the parameters and the seed of stage 1, its best weights, and no augmentation."""
    first, second = tmp_path / "stage-1", tmp_path / "stage-2"
    write_run(first, folds=folds, scale_epoch_size=5.0)
    params = second_params(first, second)
    assert params["data"] == {"augment": False, "height": 48}
    assert params["trainer"] == {
        "warmstart": {"model": str(tmp_path / model)},
        "output_dir": str(second),
        "random_seed": 11,
        "folds": folds,
        "epochs": 7,
        "scale_epoch_size": 1,
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--resume", "here", "--trainer.epochs", "3"], "Leave out the other options"),
        (["--resume", "missing"], "no stages to resume"),
        (["--resume", "here"], "The stages were begun in /elsewhere"),
        (["--data.augment=False"], "--data.augment cannot be given"),
        (["--trainer.export-best", "False"], "--trainer.export-best cannot be given"),
        (["--trainer.output_dir", "here"], "already has stages"),
        (["--trainer.output_dir", "here/half"], "already has stages"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, monkeypatch: Any, words: list[str], text: str) -> None:
    """Contradicting options are refused before anything is written, and no folder of a stage is used or removed."""
    write_run(tmp_path / "here/stage-1")
    (tmp_path / "here/half/stage-2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, words)
    assert isinstance(result.exception, UsageError)
    assert text in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def outputs(folder: Path) -> list[Any]:
    """Return the outputs of the final model for the validation lines."""
    from aipcore.prediction import Predictor

    return [each.raw["text"] for each in Predictor.load(folder / "stage-2/export").predict_data()]


def start(*words: Any, cwd: Path) -> subprocess.Popen[bytes]:
    """Start `aip` in a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "aipcore", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_stages_that_are_killed(tmp_path: Path, monkeypatch: Any) -> None:
    """Stages killed in stage 1, between the stages and in stage 2, and resumed, end with the same model."""
    monkeypatch.chdir(tmp_path)
    words = ("ocr-train", *TINY, "--checkpoint.every_steps", "1")
    assert aip(*words, "--trainer.output_dir", "whole") == 0
    first, second = (json.loads((tmp_path / f"whole/stage-{n}/params.json").read_text()) for n in (1, 2))
    assert (first["data"]["augment"], second["data"]["augment"]) == (True, False)
    assert second["trainer"]["warmstart"]["model"] == "whole/stage-1/best"
    begun = start(*words, "--trainer.output_dir", "killed", cwd=tmp_path)
    for stage in ("stage-1", "stage-2"):
        while len(list((tmp_path / "killed" / stage / "checkpoint").glob("step-*"))) < 2:
            assert begun.poll() is None
            time.sleep(0.01)
        begun.send_signal(signal.SIGKILL)
        begun.wait()
        begun = start("ocr-train", "--resume", "killed", "--quiet", cwd=tmp_path)
    assert begun.wait(300) == 0
    whole = outputs(tmp_path / "whole")
    for ours, theirs in zip(outputs(tmp_path / "killed"), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A kill at the start of stage 2 leaves a folder without a run.
    shutil.rmtree(tmp_path / "killed/stage-2")
    (tmp_path / "killed/stage-2").mkdir()
    (tmp_path / "killed/stage-2/train.log").touch()
    assert aip("ocr-train", "--resume", "killed", "--quiet") == 0
    for ours, theirs in zip(outputs(tmp_path / "killed"), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_folds_and_reports(tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    """Both stages train folds, each from its own model. The report reads models, votes and scores out of fold."""
    monkeypatch.chdir(tmp_path)
    assert aip("ocr-train", *TINY, "--trainer.folds", "2", "--trainer.output_dir", "folds") == 0
    for fold in ("fold-1", "fold-2"):
        params = json.loads((tmp_path / "folds/stage-2" / fold / "params.json").read_text())
        assert params["trainer"]["warmstart"]["model"] == f"folds/stage-1/{fold}"
    assert aip("ocr-report", "folds/stage-2", "--output", "vote.html") == 0
    assert "1 lines" in capfd.readouterr().out
    assert aip("lav", "folds/stage-2", "--dump", "scores.npz", "--json", "scores.json") == 0
    assert re.search(r"^truth +read as +times$", capfd.readouterr().out, re.MULTILINE)
    assert aip("ocr-report", "scores.npz", "--output", "report.html", "--worst", "5") == 0
    printed = capfd.readouterr().out
    (score,) = json.loads((tmp_path / "scores.json").read_text())["lists"]
    assert f"character error rate {score['values']['character_error_rate']:.2%}" in printed
    assert "16 lines" in printed
    assert "The training texts have" in printed
    assert (tmp_path / "report.html").read_text().count("<div class=line>") == 5
    assert "data:image/png;base64," in (tmp_path / "vote.html").read_text()
