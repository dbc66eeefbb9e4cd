"""Checkpoints: complete or not there, and exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aipcore.errors import TrainingError
from aipcore.training.checkpoint import Checkpoint, newest_checkpoint, problems, read_checkpoint, write_checkpoint


def example(value: float = 1.0) -> Checkpoint:
    """A checkpoint of every kind of array."""
    arrays = {
        "float": np.array([value, -0.0], np.float32),
        "long": np.array(2**40, np.int64),
        "short": np.array([1.5, 2.5], ml_dtypes.bfloat16),
        "flag": np.array(True),
    }
    return Checkpoint(arrays=arrays, progress={"epoch": 3})


def test_round_trip(tmp_path: Path) -> None:
    """Every bit and type comes back, bfloat16 included."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    stored = read_checkpoint(path)
    assert stored.progress == {"epoch": 3}
    for name, array in example().arrays.items():
        assert stored.arrays[name].dtype == array.dtype
        assert stored.arrays[name].tobytes() == array.tobytes()


def test_keeps_the_newest(tmp_path: Path) -> None:
    """Only as many as asked for are kept, and none but whole folders lie there."""
    for step in (9, 10, 11):
        write_checkpoint(tmp_path, step, example(), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000010", "step-0000000011"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    """A damaged checkpoint is not taken; the one before it is."""
    write_checkpoint(tmp_path, 1, example(), keep=2)
    newest = write_checkpoint(tmp_path, 2, example(2.0), keep=2)
    file = newest / ("manifest.json" if damage == "manifest" else "variables.npz")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2])
    assert problems(newest)
    assert newest_checkpoint(tmp_path).name == "step-0000000001"
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(newest)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A checkpoint of a later aip is refused with a sentence."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(TrainingError, match="format 99, this aip reads up to"):
        read_checkpoint(path)


def test_no_checkpoint(tmp_path: Path) -> None:
    """Nothing to go on from is said."""
    with pytest.raises(TrainingError, match="holds no complete checkpoint"):
        newest_checkpoint(tmp_path)


def final_bits(trainer: Any) -> dict[str, bytes]:
    """All variables of a run, as bytes."""
    return {name: array.tobytes() for name, array in trainer.state.read().items()}


@pytest.mark.parametrize("optimizer", ["AdaBelief", "Nadam"])
def test_restored_run_ends_in_the_same_bits(make_trainer: Any, noisy_class: Any, optimizer: str) -> None:
    """From the checkpoint of any epoch, training ends with the variables and history of the uninterrupted run."""
    words = (
        "--optimizer", optimizer, "--trainer.epochs", "4", "--checkpoint.keep", "4", "--trainer.accumulate_steps", "2",
        "--callbacks", "CSVLog", "ReduceOnPlateau", "--callbacks.ReduceOnPlateau.patience", "1",
    )  # fmt: skip
    whole = make_trainer(noisy_class, *words, output="whole")
    history = whole.run().history
    bits = final_bits(whole)
    assert whole.output_dir is not None
    for path in sorted((whole.output_dir / "checkpoint").iterdir())[:-1]:
        again = make_trainer(noisy_class, *words, "--trainer.random_seed", "7", output=f"from-{path.name}")
        again.restore(path)
        assert again.run().history == history
        assert final_bits(again) == bits
        assert (again.output_dir / "log.csv").read_text() == (whole.output_dir / "log.csv").read_text()


def test_other_model_is_refused(make_trainer: Any, blobs_class: Any, noisy_class: Any) -> None:
    """State of another model is refused before anything is assigned."""
    first = make_trainer(blobs_class, "--trainer.epochs", "1", output="first")
    first.run()
    second = make_trainer(noisy_class, output="second")
    before = final_bits(second)
    with pytest.raises(TrainingError, match="another model"):
        second.restore(newest_checkpoint(first.output_dir / "checkpoint"))
    assert final_bits(second) == before
