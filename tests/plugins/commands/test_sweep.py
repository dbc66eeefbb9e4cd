"""Whole sweeps, as real processes that are killed, interrupted and run side by side."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import optuna
import pytest
from optuna.trial import TrialState

from aipcore.training.run_folder import locked

OWN = """
from aipcore.plugin import OptimizerParams, OptimizerRecord, hookimpl, params

@params
class Params(OptimizerParams):
    '''Plain gradient descent.'''

def build(params, learning_rate):
    import keras

    return keras.optimizers.SGD(learning_rate)

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="Own", summary="Gradient descent.", params=Params, build=build)]
"""

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


def trials(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the trials of a sweep by number, from its `trials.json`."""
    return {row["trial"]: row for row in json.loads((folder / "trials.json").read_text())}


def start(folder: Path, *words: str) -> forks.Forked:
    """Start `aip sweep`."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return forks.start([*AIP, "sweep", *words], cwd=folder, env=environment, stderr=forks.STDOUT, children=True)


def wait_until(true: Callable[[], bool], process: forks.Forked) -> None:
    """Wait for a condition that `process` is expected to fulfil."""
    while not true():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def checkpoints(trial: Path) -> list[str]:
    """Return the names of a trial's checkpoints."""
    return [path.name for path in (trial / "checkpoint").glob("step-*")]


@pytest.mark.slow
def test_sweep(line, fork_aip, tmp_path) -> None:
    """A successful and a killed trial are both recorded, and the results are complete."""
    done = fork_aip("sweep", line, "--space", "model.kill=no,yes", "--sampler", "grid", "--trainer.epochs", "3")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "line-sweep-1"
    good, bad = trials(folder)[0], trials(folder)[1]
    assert (good["state"], good["epoch"], good["params"]) == ("complete", 3, {"model.kill": "no"})
    assert good["value"] == good["logs"]["val_loss"]
    assert (bad["state"], bad["value"]) == ("failed", None)
    assert bad["reason"].startswith("killed by SIGKILL, possibly because memory ran out")
    with (folder / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete", "failed"]
    # Each trial is a whole run with all its parameters.
    params = json.loads((folder / "trial-0000" / "params.json").read_text())
    assert (params["model"]["kill"], params["trainer"]["epochs"]) == (False, 3)
    assert checkpoints(folder / "trial-0000")
    assert "Trained 3 epochs" in (folder / "trial-0000" / "output.log").read_text()
    assert "2 trials, lowest val_loss first" in done.stdout
    assert f"Best: trial 0 in {folder / 'trial-0000'}. To train it again:" in done.stdout
    again = next(text for text in done.stdout.splitlines() if text.startswith("  aip train "))
    assert shlex.split(again) == ["aip", "train", line, "--trainer.epochs", "3", "--model.kill=no"]
    # Nothing is left to do for the same command.
    more = fork_aip(
        "sweep", line, "--space", "model.kill=no,yes", "--sampler", "grid", "--trainer.epochs", "3", "--sweep_dir",
        str(folder),
    )  # fmt: skip
    assert (more.returncode, len(trials(folder))) == (0, 2)
    other = fork_aip("sweep", line, "--space", "model.kill=no,yes", "--sampler", "grid", "--sweep_dir", str(folder))
    assert other.returncode == 2
    assert "has the parameters --trainer.epochs 3, but this command has none" in " ".join(other.stderr.split())


@pytest.mark.slow
def test_best_trial_can_be_applied(fork_aip, tmp_path) -> None:
    """The best model of three trials of the tutorial, with two epochs each, has the score in the sweep."""
    done = fork_aip(
        "sweep", "tutorial", "--space", "optimizer=adam,lion", "optimizer.beta_1=0.8..0.95", "--trials", "3", "--seed",
        "1", "--trainer.epochs", "2", "--trainer.jit_compile", "off", "--sweep-dir", "s", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = trials(tmp_path / "s")
    assert [row["state"] for row in rows.values()] == ["complete"] * 3
    best = max(rows.values(), key=lambda row: row["value"])
    assert json.loads((Path(best["folder"]) / "params.json").read_text())["trainer"]["optimizer"]["name"] in (
        "Adam", "Lion",
    )  # fmt: skip
    scored = fork_aip("lav", best["folder"])
    assert scored.returncode == 0, scored.stderr
    assert f"accuracy\t{best['value']:.6g}\n" in scored.stdout


@pytest.mark.slow
def test_plugin_files(line, fork_aip, tmp_path) -> None:
    """Trials get the plugin file; a resumed sweep loads it with trust, or if it is named again."""
    (tmp_path / "own.py").write_text(OWN)
    words = ("--space", "optimizer=own,sgd", "--sampler", "grid", "--trainer.epochs", "1", "--trials", "1")
    done = fork_aip("sweep", line, *words, "--sweep_dir", "s", "-p", "own.py")
    assert done.returncode == 0, done.stderr
    assert trials(tmp_path / "s")[0]["state"] == "complete"
    assert f"-p {tmp_path / 'own.py'}" in done.stdout
    resume = ("sweep", "--resume", "s", "--trials", "2")
    refused = fork_aip(*resume)
    assert (refused.returncode, "add --trust" in refused.stderr) == (2, True)
    done = fork_aip(*resume, "--trust")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in trials(tmp_path / "s").values()] == ["complete"] * 2


@pytest.mark.slow
def test_kill_and_resume(line, fork_aip, tmp_path) -> None:
    """If the sweep is killed, the trial saves and ends, and a resumed sweep continues it."""
    words = (line, "--space", "model.units=2..9", "--trials", "2", "--trainer.epochs", "40", "--model.wait", "0.1")
    process = start(tmp_path, *words, "--trainer.lav_every_n", "1", "--sweep_dir", "s")
    first = tmp_path / "s" / "trial-0000"
    wait_until(lambda: len(checkpoints(first)) > 1, process)
    units = json.loads((first / "params.json").read_text())["model"]["units"]
    process.kill()
    process.communicate()
    refused = fork_aip("sweep", "--resume", "s")
    assert refused.returncode == 2
    assert "add --trust" in refused.stderr
    done = fork_aip("sweep", "--resume", "s", "--trust", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Trial 0 resumed" in done.stdout
    rows = trials(tmp_path / "s")
    assert {number: row["state"] for number, row in rows.items()} == {0: "complete", 1: "complete"}
    assert rows[0]["params"] == {"model.units": units}
    about = json.loads((first / "run.json").read_text())
    assert about["resumed"][0]["checkpoint"] is not None
    log = (first / "output.log").read_text()
    assert "Stopping and saving." in log


@pytest.mark.slow
def test_interrupt_and_resume(line, fork_aip, tmp_path) -> None:
    """Ctrl-C saves the trial, shows the results, and gives the command that resumes the sweep."""
    words = (line, "--space", "model.units=2..9", "--trials", "1", "--trainer.epochs", "30", "--model.wait", "0.1")
    words = (*words, "--trainer.lav_every_n", "1", "--sweep_dir", "s")
    process = start(tmp_path, *words)
    first = tmp_path / "s" / "trial-0000"
    wait_until(lambda: len(checkpoints(first)) > 1, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "Stopping and saving the trial." in said
    assert "Resume with: aip sweep --resume s --trust" in said
    assert trials(tmp_path / "s")[0]["state"] == "running"
    done = fork_aip("sweep", *words, timeout=300)
    assert done.returncode == 0, done.stderr
    assert trials(tmp_path / "s")[0]["state"] == "complete"
    # No epoch ran twice, and none is missing.
    history = json.loads(next((first / "checkpoint").glob("step-*/progress.json")).read_text())["history"]
    assert len(history) == 30


@pytest.mark.slow
def test_second_interrupt(line, tmp_path) -> None:
    """A second Ctrl-C ends everything immediately, including the trial's process, and the sweep can be resumed."""
    process = start(
        tmp_path, line, "--space", "model.units=2..9", "--trainer.epochs", "400", "--sweep_dir", "s",
        "--model.wait", "20", "--trainer.lav_every_n", "1",
    )  # fmt: skip
    first = tmp_path / "s" / "trial-0000"
    wait_until(lambda: bool(checkpoints(first)), process)
    process.send_signal(signal.SIGINT)
    # Two simultaneous signals of one kind would count as one.
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    # The process that wrote to the run has ended.
    with locked(first):
        assert (tmp_path / "s" / "sweep.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("folders", [("a", "a"), ("a", "b")])
def test_two_processes_share_a_study(line, folders, fork_aip, tmp_path) -> None:
    """Two processes, with one folder or two and one database, run the trials of one study, each once."""
    words = (line, "--space", "model.units=2..9", "--trials", "4", "--seed", "3", "--trainer.epochs", "1")
    if folders[0] != folders[1]:
        words = (*words, "--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--study", "both")
    both = [start(tmp_path, *words, "--sweep_dir", folder) for folder in folders]
    for process in both:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    found, other = (trials(tmp_path / folder) for folder in folders)
    assert found == other
    assert len(found) == 4
    assert {row["state"] for row in found.values()} == {"complete"}
    for row in found.values():
        assert (Path(row["folder"]) / "params.json").exists()
    assert len({row["folder"] for row in found.values()}) == len(found)
    if folders[0] != folders[1]:
        refused = fork_aip("sweep", *words, "--monitor", "max:val_loss", "--sweep_dir", "c")
        assert refused.returncode == 2
        assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_pruning(line, fork_aip, tmp_path) -> None:
    """A trial that falls behind ends after that epoch, and can still be resumed as a run."""
    words = (line, "--space", "model.units=2..9", "--trainer.epochs", "4", "--sweep_dir", "s")
    done = fork_aip("sweep", *words, "--trials", "1")
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}")
    for _ in range(5):
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                value=-1.0,
                params={"model.units": 3},
                distributions={"model.units": optuna.distributions.IntDistribution(2, 9)},
                intermediate_values={1: 0.0, 2: -1.0, 3: -1.0, 4: -1.0},
            )
        )
    done = fork_aip("sweep", *words, "--trials", "7")
    assert done.returncode == 0, done.stderr
    assert "Trial 6 pruned" in done.stdout
    row = trials(tmp_path / "s")[6]
    assert (row["state"], row["epoch"]) == ("pruned", 1)
    log = (tmp_path / "s" / "trial-0006" / "output.log").read_text()
    assert "Pruned by the sweep: other trials were better at this epoch." in log
    assert "Stopped early after 1 epoch" in log
    resumed = fork_aip("resume", "s/trial-0006", "--trust")
    assert resumed.returncode == 0, resumed.stderr
    assert "Trained 3 more epochs (4 total)" in resumed.stdout


@pytest.mark.slow
def test_all_fail_alike(line, fork_aip, tmp_path) -> None:
    """Three trials with the same error show that the parameters are not its cause."""
    done = fork_aip("sweep", line, "--space", "model.units=2..9", "--model.broken", "--sweep_dir", "s", timeout=300)
    assert done.returncode == 1
    errors = " ".join(done.stderr.split())
    assert "The first 3 trials failed for the same reason, so the sweep ends: " in errors
    assert "RuntimeError: the model has a mistake (" in errors
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "s" / "trial-0000" / "output.log").read_text()
    assert [row["state"] for row in trials(tmp_path / "s").values()] == ["failed"] * 3


@pytest.mark.slow
def test_no_numbers_and_no_such_value(line, fork_aip, tmp_path) -> None:
    """A diverging trial fails with the reason; a value that does not exist ends the sweep immediately."""
    words = ("--space", "model.scale=1,1e38", "--sampler", "grid", "--trainer.skip_sanity_check")
    done = fork_aip("sweep", line, *words, "--sweep_dir", "s")
    assert done.returncode == 0, done.stderr
    bad = trials(tmp_path / "s")[1]
    assert (bad["state"], bad["reason"]) in [("failed", f"the loss is {what} in epoch 1") for what in ("nan", "inf")]
    done = fork_aip("sweep", line, *words, "--monitor", "min:val_lss", "--sweep_dir", "t")
    assert done.returncode == 1
    assert "The value val_lss is not logged, only" in " ".join(done.stderr.split())
    assert len(trials(tmp_path / "t")) == 1
