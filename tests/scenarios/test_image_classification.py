"""Image classification: folders and lists, classes, augmentation, and learning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from aip_plugins.scenarios.image_classification.params import ImageData, ImageParams
from aip_plugins.scenarios.image_classification.processors import Augment, Crop, DecodeClass, EncodeClass, Erase, Resize
from aip_plugins.scenarios.image_classification.scenario import ImageClassification

from aipcore.errors import AipError, DataError
from aipcore.scenario import Sample


def write_images(folder: Path, count: int) -> Path:
    """Write bright and dark colour images of several sizes into two folders."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = random.integers(10, 40, 2)
            pixels = random.integers(low, low + 100, (*size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["CNN", "ResNet"])
def test_learns_digits(make_trainer: Callable[..., Any], graph: str) -> None:
    """Either network classifies at least 95 of 100 held-out digits after a few epochs of the default run."""
    epochs = str(ImageClassification.defaults["trainer.epochs"])
    trainer = make_trainer(
        ImageClassification, "--model.graph", graph, "--data.classes", *"0123456789", "--trainer.epochs", epochs,
        "--early_stopping.upper_threshold", "0.95",
    )  # fmt: skip
    assert trainer.fit().best >= 0.95


def test_folders(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """Folders may have colour images of any size, and the names of the folders are recorded as the classes."""
    train, val = write_images(tmp_path / "train", 20), write_images(tmp_path / "val", 5)
    done = fork_aip(
        "train", "image_classification", "--train.lists", str(train), "--val.lists", str(val), "--data.colors", "rgb",
        "--trainer.epochs", "12", "--train.batch_size", "8", "--trainer.random_seed", "1", "--json-log", "log.jsonl",
        "--trainer.output_dir", str(tmp_path / "out"), "--model.graph.filters", "4", "8",
        "--data.top_k", "2", "--data.crop", "0.8", "--data.erase", "0.2", "--train.class_weight", "balanced",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "40 training samples" in done.stdout
    assert "top_2_accuracy 1.0000" in done.stdout
    recorded = json.loads((tmp_path / "out" / "params.json").read_text())
    assert recorded["data"]["classes"] == ["bright", "dark"]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["best"] == 1.0


def test_resize() -> None:
    """Grey and colour images of any size are resized to one."""
    for shape, channels in (((10, 20), 1), ((30, 9, 3), 3)):
        made = Resize(8, 12).process(Sample(inputs=np.full(shape, 7, np.uint8)))
        assert made.inputs.shape == (8, 12, channels)
        assert (made.inputs == 7).all()


def test_augmentation() -> None:
    """Augmentation is a function of the generator alone, and disabled options do nothing."""
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 1)).astype(np.uint8)
    sample = Sample(inputs=image)
    first, again, other = (
        Augment(ImageData()).process(sample, np.random.default_rng(seed)).inputs for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == image.shape
    off = Augment(ImageData(shift=0.0, rotate=0.0, contrast=0.0))
    np.testing.assert_array_equal(off.process(sample, np.random.default_rng(1)).inputs, image)
    flip = Augment(ImageData(shift=0.0, rotate=0.0, contrast=0.0, flip=True))
    seen = {bool((flip.process(sample, np.random.default_rng(seed)).inputs == image).all()) for seed in range(9)}
    assert seen == {True, False}


def test_crop_and_erase() -> None:
    """A crop is a part of the image of at least the given area; an erased rectangle covers 2% to 33%."""
    image = np.arange(30 * 40).reshape(30, 40, 1).astype(np.uint16)
    for seed in range(20):
        part = Crop(0.25).process(Sample(inputs=image), np.random.default_rng(seed)).inputs
        row, column = divmod(int(part[0, 0, 0]), 40)
        np.testing.assert_array_equal(part, image[row : row + part.shape[0], column : column + part.shape[1]])
        assert 0.23 <= part.size / image.size <= 1
        erased = Erase(1.0).process(Sample(inputs=image), np.random.default_rng(seed)).inputs
        assert 0.015 <= np.mean(erased != image) <= 0.34
    assert Erase(0.0).process(Sample(inputs=image), np.random.default_rng(1)).inputs is image


def test_classes(refused: Any) -> None:
    """Classes are converted in both directions, and an unknown class is named."""
    encode = EncodeClass(["cat", "dog"])
    assert encode.process(Sample(inputs=0, targets="dog")).targets["class"] == 1
    with refused(DataError):
        encode.process(Sample(inputs=0, targets="cow"))
    decoded = DecodeClass(["cat", "dog"]).process({"class": np.log(np.array([0.25, 0.75]))}, None)
    assert decoded["class"] == "dog"
    assert decoded["probability"] == pytest.approx(0.75)


@pytest.mark.parametrize("group", ["train", "val", "lav"])
def test_unknown_classes_are_refused_before_a_run(tmp_path: Path, group: str, refused: Any) -> None:
    """One sentence names the first image and their number; images to predict may be of any class."""
    lists = []
    for name in ("cat", "cow"):
        write_images(tmp_path / name, 1)
        (tmp_path / name / "bright").rename(tmp_path / name / name)
        lists.append(tmp_path / name / name)
    params = ImageParams(data=ImageData(classes=("cat", "dog")))
    listed = attrs.evolve(getattr(params, group), lists=tuple(lists))
    scenario = ImageClassification(attrs.evolve(params, **{group: listed}))
    with refused(DataError):
        getattr(scenario, f"{group}_data")()
    if group == "val":
        assert len(scenario.predict_data()) == 2


@pytest.mark.parametrize(
    ("names", "data"), [(["a"], {}), (["a", "b"], {"top_k": (2, 5)}), ([], {"classes": ("a", "a")})]
)
def test_classes_that_cannot_be_used(names: list[str], data: dict[str, Any], tmp_path: Path, refused: Any) -> None:
    """A single class, more classes to count than there are, and a class that is named twice are refused."""
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    params = ImageParams()
    lists = attrs.evolve(params.train, lists=(tmp_path,) if names else ())
    with refused(AipError):
        ImageClassification(attrs.evolve(params, data=attrs.evolve(params.data, **data), train=lists)).derived_params()
