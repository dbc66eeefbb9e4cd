"""One meaning of a path for resume, predict, LAV, export and warm start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.errors import ParamsError, UsageError
from aipcore.training.artifacts import MODELS, RUNS, WEIGHTS, find_artifact
from aipcore.training.checkpoint.format import Checkpoint, write_checkpoint
from aipcore.training.checkpoint.weights import checkpoint_weights


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Create a run folder with two checkpoints and no model."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "params.json"):
        (run / name).write_text("{}")
    for updates in (1, 2):
        write_checkpoint(run / "checkpoint", updates, Checkpoint(arrays={"a": np.zeros(2)}, progress={}), keep=2)
    return run


def model(path: Path, record: bool = True) -> Path:
    """Create a SavedModel, with or without aip's record."""
    path.mkdir()
    (path / "saved_model.pb").touch()
    if record:
        (path / "aip.json").write_text(json.dumps({}))
    return path


def test_artifact_of_a_run_folder(run: Path) -> None:
    """A run folder is accepted as itself or stands for its best model, its export or its newest complete checkpoint."""
    checkpoints = run / "checkpoint"
    newest = checkpoints / "step-0000000002"
    for path, chosen in ((run, None), (checkpoints, None), (newest, newest)):
        found = find_artifact(path, RUNS)
        assert (found.path, found.checkpoint) == (run, chosen)
        for accepted in (MODELS, WEIGHTS):
            assert find_artifact(path, accepted).path == newest
    for name in ("export", "best"):
        path = model(run / name)
        for accepted in (MODELS, WEIGHTS):
            found = find_artifact(run, accepted)
            assert (found.path, found.kind) == (path, "model")
    assert find_artifact(checkpoints, MODELS).path == newest


def test_a_damaged_checkpoint_is_passed_over(run: Path, refused: Any) -> None:
    """Commands use the newest complete checkpoint and warn about damaged ones. A reading process repairs nothing."""
    newest, older = (run / "checkpoint" / f"step-000000000{number}" for number in (2, 1))
    (newest / "variables.npz").write_bytes(b"x")
    for accepted in (MODELS, WEIGHTS):
        found = find_artifact(run, accepted)
        assert found.path == older
        (warning,) = found.warnings
        assert f"The checkpoint {newest} is damaged" in warning
        assert warning.endswith(f"{older.name} is used instead.")
    hidden = older.rename(older.with_name(f".{older.name}.old"))
    with refused(UsageError):
        find_artifact(run, MODELS)
    assert hidden.exists()


def test_sentences(tmp_path: Path, refused: Any) -> None:
    """Errors name the given path and the accepted ones."""
    model(tmp_path / "foreign", record=False)
    model(tmp_path / "best")
    (tmp_path / "text.keras").write_text("text")
    alone = write_checkpoint(tmp_path / "checkpoint", 1, Checkpoint(arrays={}, progress={}), keep=1)
    for path, accepted, problem in (
        (tmp_path / "best", RUNS, "is a model. Give a run folder, its checkpoint folder, or one checkpoint."),
        (tmp_path, RUNS, "is not a run folder: run.json is missing. Give a run folder,"),
        (alone, RUNS, "is a checkpoint outside a run folder. Give a run folder,"),
        (tmp_path / "foreign", MODELS, "is a SavedModel that aip did not write. Give a run folder, or its best,"),
        (tmp_path / "text.keras", MODELS, "is a file. Give a run folder"),
        (tmp_path / "none", MODELS, "does not exist. Give a run folder"),
    ):
        with pytest.raises(UsageError) as caught:
            find_artifact(path, accepted)
        assert str(caught.value).startswith(f"{path} {problem}")
    run = tmp_path / "runs" / "tutorial-1"
    run.mkdir(parents=True)
    for name in ("run.json", "params.json"):
        (run / name).write_text("{}")
    with pytest.raises(UsageError, match=rf"/runs is not a run folder, but contains {run}\. Give a run folder"):
        find_artifact(run.parent, MODELS)
    with refused(ParamsError):
        find_artifact(tmp_path / "text.keras", WEIGHTS)
    assert find_artifact(tmp_path / "foreign", WEIGHTS).kind == "SavedModel"


def test_weights_of_replicas(tmp_path: Path) -> None:
    """Averaged weights replace raw ones. Values of replicas are averaged in both groups."""
    arrays = {
        "model/kernel": np.float32([1, 2]),
        "model/mean": np.float32([1, 3]),
        "model/mean@1": np.float32([3, 5]),
        "model/seed": np.int64([1, 2]),
        "model/seed@1": np.int64([3, 4]),
        "ema/kernel": np.float32([5, 6]),
        "ema/kernel@1": np.float32([7, 8]),
        "optimizer/rate": np.float32(1),
    }
    path = write_checkpoint(tmp_path, 1, Checkpoint(arrays=arrays, progress={}), keep=1)
    found = {name: array.tolist() for name, array in checkpoint_weights(path).items()}
    assert found == {"kernel": [6, 7], "mean": [2, 4], "seed": [1, 2]}
