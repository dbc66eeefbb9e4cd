"""Folders and files of strangers run no code and refer to no files outside, in any command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from aip_plugins.exporters import keras_file

from aipcore.cli.main import main
from aipcore.errors import UsageError
from aipcore.prediction.predictor import Predictor
from aipcore.training.artifacts import WEIGHTS, find_artifact
from aipcore.training.checkpoint.format import digest, newest_checkpoint
from aipcore.training.warmstart.readers import read_weights


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Return the path of a file that exists if code of `evil.py` beside it has run."""
    path = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(path)!r}, 'w').close()")
    return path


def named(folder: Path, kind: str) -> dict[str, str]:
    """Name the code of a stranger as the scenario of a record."""
    reference = {"module": "evil:Evil", "file": f"{folder / 'evil.py'}:Evil", "plugin": "evil:Evil"}[kind]
    return {"name": reference, "kind": kind, "reference": reference, "folder": str(folder)}


@pytest.mark.parametrize("kind", ["module", "file", "plugin"])
def test_a_manifest_cannot_name_code(points: Any, tmp_path: Path, marker: Path, kind: str, capsys: Any) -> None:
    """Nothing is imported if a checkpoint's manifest with a valid checksum names a module or a file."""
    path = tmp_path / "run" / "checkpoint" / "step-0000000001"
    shutil.copytree(newest_checkpoint(points.folder / "checkpoint"), path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["about"]["scenario"] = named(tmp_path, kind)
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest(manifest)}))
    for command in (["lav", str(path)], ["predict", str(path)], ["export", str(path), "--format", "Keras"]):
        assert main(command) == 2
        assert "runs its code" in (error := capsys.readouterr().err) or "is not installed" in error
    assert not marker.exists()


def test_the_folder_of_resources_is_no_link(points: Any, tmp_path: Path, refused: Any) -> None:
    """A link in place of the whole folder is refused like a link in it."""
    shutil.copytree(points.folder / "best", tmp_path / "model")
    outside = (tmp_path / "model" / "resources").rename(tmp_path / "outside")
    (tmp_path / "model" / "resources").symlink_to(outside)
    with refused(UsageError):
        Predictor.load(tmp_path / "model", trust=True)


def evil_keras_file(path: Path, marker: Path) -> None:
    """Write a model whose first layer is a lambda with its code in the file, which creates the marker on each call."""
    source = keras.Input((4,), name="features")
    # The code needs no other objects, since Keras writes a lambda's references as JSON.
    spread = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x * 2)[1]")
    outputs = keras.layers.Dense(3, name="head")(keras.layers.Lambda(spread, name="evil")(source))
    keras.Model(source, outputs).save(path)
    marker.unlink()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_lambda_in_a_keras_file(tmp_path: Path) -> None:
    """The weights can be used for a warm start, loading the model is refused, and the code does not run."""
    marker, path = tmp_path / "ran", tmp_path / "model.keras"
    evil_keras_file(path, marker)
    arrays = read_weights(find_artifact(path, WEIGHTS)).arrays
    assert sorted(array.shape for array in arrays.values()) == [(3,), (4, 3)]
    with pytest.raises(ValueError, match="unsafe"):
        keras_file.load(tmp_path)
    assert not marker.exists()


def test_pickled_answers(points: Any, tmp_path: Path, capsys: Any) -> None:
    """A file of predictions with one pickled column is refused, even if all others are valid."""
    answers = tmp_path / "answers.npz"
    assert main(["lav", str(points.folder), "--trust", "--dump", str(answers)]) == 0

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    with np.load(answers, allow_pickle=False) as file:
        columns: dict[str, Any] = dict(file)
    columns["index"] = np.array([Evil()] * len(columns["index"]), object)
    np.savez(answers, **columns)
    capsys.readouterr()
    assert main(["evaluate", str(answers), "--trust"]) == 2
    assert "or it is damaged" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
