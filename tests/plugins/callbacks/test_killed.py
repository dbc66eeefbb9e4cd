"""Runs with the built-in callbacks, killed twice, equal an uninterrupted run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

import aipcore as aip
from aipcore.scenario import Scenario
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.reporter import Reporter

CHUNKS = 10


class Squares(Scenario):
    """A scenario of bright and dark noise as images, with dropout; 7 chunks per epoch."""

    def _data(self, samples: int, seed: int) -> tuple[Any, Any]:
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, samples).astype(np.int32)
        noise = generator.random((samples, 4, 4, 1), dtype=np.float32)
        return (noise + labels[:, None, None, None]) / 2, labels

    def train_data(self) -> Any:
        return self._data(40, 1)

    def val_data(self) -> Any:
        return self._data(12, 2)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        return layers.Dense(2)(layers.Dropout(0.3)(layers.Dense(5, activation="relu")(layers.Flatten()(inputs))))

    def losses(self) -> Any:
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


PARAMS: dict[str, Any] = {
    "trainer": {
        "epochs": 2, "random_seed": 3, "calc_ema": 0.8, "accumulate_steps": 3, "export_best": False,
        "export_final": False, "skip_sanity_check": True, "tune": "off",
    },
    "train.batch_size": 2,
    "data.workers": 0,
    "checkpoint": {"every_steps": 3, "keep": 9},
    "learning_rate": "CosineDecay",
    "callbacks": {
        "CSVLog": {}, "ReduceOnPlateau": {"patience": 1}, "LearningRateMonitor": {"csv": True}, "TerminateOnNaN": {},
        "GradientNorm": {"every_n_epochs": 1}, "WeightHistograms": {"every_n_epochs": 1},
        "SampleImages": {"every_n_epochs": 1},
    },
}  # fmt: skip


class KilledError(BaseException):
    """The end of a run whose folder was copied before any cleanup."""


class Copies(Reporter):
    """A callback that copies the folder on the disk after chunks, as a kill at that time would leave it.

    Args:
        folder: The run folder.
        copies: The target of the copy, by the number of chunks since the run was resumed; 0 is before the first one.
        ends: If True, the run ends at the last copy.
    """

    def __init__(self, folder: Path, copies: Mapping[int, Path], *, ends: bool = False) -> None:
        self.folder, self.copies, self.ends, self.chunks = folder, dict(copies), ends, 0

    def _copy(self) -> None:
        if (target := self.copies.pop(self.chunks, None)) is None:
            return
        # Another test covers writes in the background.
        for thread in threading.enumerate():
            if thread.name == "aip-checkpoint":
                thread.join()
        shutil.copytree(self.folder, target)
        if self.ends and not self.copies:
            raise KilledError

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._copy()

    def progress(self, step: int, samples: int, logs: Any) -> None:
        self.chunks += 1
        self._copy()


def points(folder: Path) -> dict[str, list[tuple[int, str, bytes]]]:
    """Return the points in TensorBoard, by part."""
    found = {}
    for part in sorted(folder.iterdir()):
        files = sorted(part.glob("events.out.tfevents.*"))
        records = [record for file in files for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()]
        events = [Event.FromString(record) for record in records]
        found[part.name] = sorted(
            (event.step, value.tag, value.SerializeToString()) for event in events for value in event.summary.value
        )
    return found


def left(folder: Path) -> dict[str, Any]:
    """Return the results of a run: variables, progress, tables and points."""
    stored = read_checkpoint(newest_checkpoint(folder / "checkpoint"))
    return {
        "variables": {name: array.tobytes() for name, array in stored.arrays.items()},
        "progress": json.dumps(stored.progress, sort_keys=True),
        "tables": {path.name: path.read_text() for path in folder.glob("*.csv")},
        "points": points(folder / "tensorboard"),
    }


@pytest.fixture
def whole(tmp_path: Path, server: Any, monkeypatch: Any) -> tuple[dict[str, Any], Callable[[int], Path]]:
    """Return the results of an uninterrupted run, and its folder after each of the first chunks."""
    # Only the host of a webhook's address is recorded.
    monkeypatch.setenv("AIP_SECRET_CALLBACKS_WEBHOOK_URL", server.url)
    callbacks = {**PARAMS["callbacks"], "Webhook": {"url": server.url}}
    copies = {chunk: tmp_path / f"killed-{chunk}" for chunk in range(1, CHUNKS + 1)}
    folder = tmp_path / "whole"
    aip.train(Squares, {**PARAMS, "callbacks": callbacks}, folder, reporter=Copies(folder, copies))
    return left(folder), copies.__getitem__


def check(whole: tuple[dict[str, Any], Callable[[int], Path]], first: int, second: int, tmp_path: Path) -> None:
    """Kill a run after `first` chunks and after `second` more, resume it each time, and compare the results."""
    expected, killed = whole
    again = Path(shutil.copytree(killed(first), tmp_path / f"once-{first}-{second}"))
    twice = tmp_path / f"twice-{first}-{second}"
    before = {path: path.read_bytes() for path in (again / "checkpoint").rglob("*") if path.is_file()}
    with pytest.raises(KilledError):
        aip.resume(again, scenario=Squares, trust=True, reporter=Copies(again, {second: twice}, ends=True))
    if second == 0:
        kept = {path: (twice / path.relative_to(again)).read_bytes() for path in before}
        assert kept == before, "resuming writes no checkpoint again"
        assert len([path for path in (twice / "checkpoint").rglob("*") if path.is_file()]) == len(before)
    aip.resume(twice, scenario=Squares, trust=True, reporter=Reporter())
    found = left(twice)
    for name, value in expected.items():
        assert found[name] == value, f"{name} after {first} and {second} chunks"


@pytest.mark.slow
def test_killed_twice(whole: Any, tmp_path: Path) -> None:
    """The kills are within the first epoch, at its end, and in the second, again immediately or a chunk later."""
    for first, second in ((2, 1), (7, 0), (10, 1)):
        check(whole, first, second, tmp_path)


@pytest.mark.slow
def test_killed_twice_after_each_chunk(whole: Any, tmp_path: Path) -> None:
    """The kills are after each of the first ten chunks, in turns again immediately or a chunk later."""
    for first in range(1, CHUNKS + 1):
        check(whole, first, first % 2, tmp_path)
