"""TensorBoard: the content of the event files, and the responses of a TensorBoard server."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest

from aipcore.errors import ScenarioError
from aipcore.scenario import Histogram, Image, ImageGrid, PRCurve, Summary
from aipcore.training.tensorboard.events import precision_and_recall, tiled


def showing(base: Any, records: Any = None) -> Any:
    """Return a scenario that shows one record of each kind, or the given ones."""

    class Showing(base):  # type: ignore[misc]
        summary_samples = 40
        seen: ClassVar[list[Any]] = []

        def summaries(self, inputs: Any, targets: Any, outputs: Any, meta: Any) -> list[Summary]:
            if records is not None:
                return records
            type(self).seen = [*self.seen, (inputs[""], targets[""], outputs[""], meta)]
            powers = np.exp(outputs[""])
            return [
                Image("picture", np.linspace(0, 1, 12).reshape(3, 4), text="From black to white."),
                ImageGrid("samples", np.abs(inputs[""][:5]).reshape(5, 3, 4).astype(np.uint8)),
                Histogram("logits", outputs[""]),
                PRCurve("first", targets[""] == 0, powers[:, 0] / powers.sum(axis=-1), thresholds=11),
            ]

    return Showing


def events_of(folder: Path) -> dict[str, dict[str, dict[int, Any]]]:
    """Return the tensor of each step by run and tag, as read by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, dict[str, dict[int, Any]]] = {}
    for file in sorted(folder.rglob("events.*")):
        tags = found.setdefault(file.parent.name, {})
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                tags.setdefault(value.tag, {})[event.step] = make_ndarray(value.tensor)
    return found


def test_curves(make_trainer: Any, blobs_class: Any) -> None:
    """Train, validation and LAV of one value share a tag, learning rates have another one, and steps are epochs."""
    words = ("--trainer.epochs", "3", "--trainer.lav_every_n", "2", "--trainer.calc_ema", "0.9")
    trainer = make_trainer(blobs_class, *words, output="out")
    history = trainer.fit().history
    found = events_of(trainer.output_dir / "tensorboard")
    assert {run: set(tags) for run, tags in found.items()} == {
        "train": {"loss", "accuracy", "learning_rate", "ema_rate"},
        "validation": {"loss", "accuracy"},
        "lav": {"loss", "accuracy"},
    }
    for run, prefix in (("train", ""), ("validation", "val_"), ("lav", "lav_")):
        for tag, points in found[run].items():
            expected = {n: logs[prefix + tag] for n, logs in enumerate(history, start=1) if prefix + tag in logs}
            assert points == pytest.approx(expected)
    assert list(found["lav"]["loss"]) == [1, 2, 3]


def test_summaries(make_trainer: Any, blobs_class: Any) -> None:
    """Each kind of record is written unchanged, made from evenly spaced samples in inference mode."""
    import tensorflow as tf

    trainer = make_trainer(showing(blobs_class), "--trainer.epochs", "3", output="out")
    trainer.fit()
    found = events_of(trainer.output_dir / "tensorboard")["validation"]
    assert set(found) == {"loss", "accuracy", "picture", "samples", "logits", "first"}
    assert all(list(found[tag]) == [1, 3] for tag in ("picture", "samples", "logits", "first"))
    # One call before the first epoch, to find mistakes early.
    assert len(type(trainer.scenario).seen) == 3
    inputs, targets, outputs, meta = type(trainer.scenario).seen[-1]
    x, y = trainer.scenario.val_data()
    indices = np.linspace(0, 63, 40).round().astype(int)
    np.testing.assert_array_equal(inputs, x[indices])
    np.testing.assert_array_equal(targets, y[indices])
    np.testing.assert_allclose(outputs, trainer.model(x[indices], training=False), rtol=1e-5, atol=1e-5)
    assert meta is None

    width, height, picture = found["picture"][3]
    assert (int(width), int(height)) == (4, 3)
    np.testing.assert_array_equal(
        tf.io.decode_png(picture).numpy()[..., 0], np.linspace(0, 255, 12).round().reshape(3, 4)
    )
    assert found["logits"][3][:, 2].sum() == outputs.size
    shown = found["first"][3]
    assert shown.shape == (6, 11)
    assert shown[0, 0] == (targets == 0).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("5", [1, 5, 10, 12]), ("10", [1, 10, 12]), ("1", list(range(1, 13))), ("0", []),
    ],
)  # fmt: skip
def test_when_summaries_are_written(make_trainer: Any, blobs_class: Any, every: str, expected: list[int]) -> None:
    """Summaries are written every n epochs, and in the first and the last one."""
    words = ("--trainer.epochs", "12", "--trainer.summaries_every_n", every, "--trainer.write_checkpoints", "False")
    words = (
        *words,
        "--trainer.export_best",
        "False",
        "--trainer.export_final",
        "False",
        "--trainer.force_eager",
        "True",
    )
    trainer = make_trainer(showing(blobs_class), *words, output="out")
    trainer.fit()
    assert list(events_of(trainer.output_dir / "tensorboard")["validation"].get("logits", {})) == expected


def test_summaries_of_samples_that_vary_in_size(make_trainer: Any) -> None:
    """Samples are padded to one size, also in batches, and come with their meta."""
    from aipcore.scenario import Sample, Scenario

    class Varying(Scenario):
        def train_data(self) -> Any:
            rows = np.random.default_rng(3).normal(size=(20, 9)).astype(np.float32)
            for number, row in enumerate(rows):
                yield Sample(inputs=row[: 3 + number % 5, None], targets=np.float32([number % 2]), meta=number)

        val_data = train_data

        def build(self, inputs: Any) -> Any:
            from keras import layers

            return layers.Dense(1)(layers.GlobalAveragePooling1D()(layers.Conv1D(2, 1)(inputs)))

        def losses(self) -> Any:
            return "mse"

        def summaries(self, inputs: Any, targets: Any, outputs: Any, meta: Any) -> list[Summary]:
            assert inputs[""].shape == (20, 7, 1)
            assert outputs[""].shape == targets[""].shape == (20, 1)
            assert list(meta) == list(range(20))
            return [Histogram("outputs", outputs[""])]

    trainer = make_trainer(Varying, "--trainer.epochs", "1", "--train.batch_size", "6", output="out")
    trainer.fit()
    assert "outputs" in events_of(trainer.output_dir / "tensorboard")["validation"]


@pytest.mark.parametrize(
    "records",
    [
        Image("a", np.zeros((2, 2))),
        ["a"],
        [Image("a", np.zeros((2, 2, 2)))],
        [Image("a", np.zeros((2, 2), int))],
        [ImageGrid("a", np.zeros((0, 2, 2)))],
        [Histogram("a", [1.0, np.nan])],
        [Histogram("a", [])],
        [Histogram("a", ["x"])],
        [Histogram("loss", [1.0])],
        [Histogram("a", [1.0]), Image("a", np.zeros((2, 2)))],
        [PRCurve("a", [1, 0], [0.5])],
        [PRCurve("a", [1, 2], [0.5, 0.5])],
        [PRCurve("a", [1, 0], [0.5, 1.5])],
        [PRCurve("a", [1, 0], [0.5, 0.5], thresholds=1)],
    ],
)
def test_records_that_cannot_be_shown(make_trainer: Any, blobs_class: Any, records: Any, refused: Any) -> None:
    """Records that cannot be shown are found before the first epoch, and the error names valid ones."""
    with refused(ScenarioError):
        make_trainer(showing(blobs_class, records), output="out")


def test_precision_and_recall_by_counting() -> None:
    """The counts at each threshold equal those of counting sample by sample, including ties and both ends."""
    generator = np.random.default_rng(5)
    scores = np.concatenate([generator.random(200).round(1), [0.0, 1.0, 0.5]])
    labels = generator.random(203) < scores
    found = precision_and_recall(labels, scores, 21)
    for column, threshold in zip(found.T, np.linspace(0, 1, 21), strict=True):
        pairs = [(score >= threshold, bool(label)) for score, label in zip(scores, labels, strict=True)]
        tp, fp, tn, fn = (pairs.count(pair) for pair in ((True, True), (True, False), (False, False), (False, True)))
        np.testing.assert_allclose(column, [tp, fp, tn, fn, tp / (tp + fp) if tp + fp else 1, tp / (tp + fn)])


def test_precision_and_recall_without_any_of_a_kind() -> None:
    """Data without positive or without negative samples causes no division by zero."""
    none = precision_and_recall(np.zeros(3, bool), np.array([0.0, 0.2, 0.9]), 3)
    np.testing.assert_array_equal(none[4:], [[0, 0, 1], [0, 0, 0]])
    every = precision_and_recall(np.ones(2, bool), np.array([0.2, 0.9]), 3)
    np.testing.assert_array_equal(every[4:], [[1, 1, 1], [1, 0.5, 0]])


@pytest.mark.parametrize(
    ("count", "height", "width", "rows", "columns", "zoom"),
    [(1, 8, 8, 1, 1, 53), (5, 8, 8, 3, 2, 17), (3, 10, 200, 3, 1, 2), (7, 20, 10, 2, 4, 10), (2, 500, 500, 2, 1, 1)],
)
def test_grid(count: int, height: int, width: int, rows: int, columns: int, zoom: int) -> None:
    """Images are placed in reading order and enlarged pixel by pixel, in a grid about as wide as high."""
    images = np.random.default_rng(1).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    grid = tiled(images)
    assert grid.dtype == np.uint8
    assert grid.shape == (rows * (height * zoom + 1) - 1, columns * (width * zoom + 1) - 1, 3)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = row * (height * zoom + 1), column * (width * zoom + 1)
        for offset in (0, zoom - 1):
            cell = grid[top + offset : top + height * zoom : zoom, left + offset : left + width * zoom : zoom]
            np.testing.assert_array_equal(cell, image)


def test_grid_is_limited() -> None:
    """A grid holds the first 64 images."""
    images = np.zeros((100, 70, 70, 3), np.uint8)
    assert tiled(images).shape == (8 * 71 - 1, 8 * 71 - 1, 3)


@pytest.mark.slow
def test_a_real_tensorboard_shows_it(make_trainer: Any, blobs_class: Any, tensorboard: Any) -> None:
    """Curves, images, histograms and PR curves are served over HTTP, also from the run folder itself."""
    trainer = make_trainer(showing(blobs_class), "--trainer.lav_every_n", "1", output="out")
    history = trainer.fit().history
    with tensorboard(trainer.output_dir) as address:

        def get(path: str, **query: str) -> Any:
            asked = "&".join(f"{name}={quote(value)}" for name, value in query.items())
            with urlopen(f"{address}/data/plugin/{path}?{asked}", timeout=60) as answer:
                return answer.read()

        runs = {f"tensorboard/{part}" for part in ("train", "validation", "lav")}
        # TensorBoard reads in the background and may not have finished.
        for _ in range(100):
            tags = json.loads(get("scalars/tags"))
            if set(tags) == runs and "first" in json.loads(get("pr_curves/tags")).get("tensorboard/validation", {}):
                break
            threading.Event().wait(0.2)
        assert set(tags) == runs
        assert all({"loss", "accuracy"} <= set(names) for names in tags.values())
        run = "tensorboard/validation"
        curve = json.loads(get("scalars/scalars", run=run, tag="loss"))
        assert [(step, pytest.approx(value)) for _, step, value in curve] == [
            (number, logs["val_loss"]) for number, logs in enumerate(history, start=1)
        ]
        assert {*json.loads(get("images/tags"))[run]} == {"picture", "samples"}
        (image, *_) = json.loads(get("images/images", run=run, tag="picture", sample="0"))
        assert get(f"images/individualImage?{image['query']}&").startswith(b"\x89PNG")
        (_, step, bins), *_ = json.loads(get("histograms/histograms", run=run, tag="logits"))
        assert (step, sum(count for _, _, count in bins)) == (1, 160)
        description = json.loads(get("images/tags"))[run]["picture"]["description"]
        assert "From black to white." in description
        curves = json.loads(get("pr_curves/pr_curves", run=run, tag="first"))[run]
        assert [each["step"] for each in curves] == [1, 2]
        targets = type(trainer.scenario).seen[-1][1]
        assert curves[-1]["true_positives"][0] == (targets == 0).sum()
        assert curves[-1]["recall"][0] == 1
