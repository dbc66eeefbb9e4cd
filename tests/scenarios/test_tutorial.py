"""The tutorial learns its digits, with every optimizer at its documented learning rate."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from aipcore.hooks.manager import get_plugin_manager
from aipcore.training.trainer import Trainer

RUN = {"trainer.epochs": 20, "trainer.random_seed": 5}

RECOMMENDED = {
    "AdaBelief": "0.001",
    "Adam": "0.001",
    "AdamW": "0.001",
    "Adamax": "0.002",
    "Nadam": "0.001",
    "RMSprop": "0.001",
    "SGD": "0.1",
    "LAMB": "0.005",
    "Lion": "0.0003",
    "Muon": "0.002",
}


def train(params: dict[str, Any]) -> Any:
    """Train the tutorial with its defaults and these parameters, without output."""
    return Trainer.from_scenario("tutorial", params, quiet=True).fit()


def test_table_is_complete() -> None:
    """Every built-in optimizer is in the table."""
    assert {entry.record.name for entry in get_plugin_manager().of_kind("optimizer") if entry.plugin.is_own} == set(
        RECOMMENDED
    )


FEW = ("AdaBelief", "Adam", "SGD", "Muon")


@pytest.mark.parametrize(
    "optimizer", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in RECOMMENDED]
)
def test_optimizer_learns_the_digits(optimizer: str) -> None:
    """20 epochs at the recommended rate give at least 0.95 on held-out digits, AdaBelief at least 0.96."""
    cls = get_plugin_manager().params_class("optimizer", optimizer)
    recommended = re.search(r"Suggested for the tutorial: --learning_rate.lr ([0-9.]+[0-9])", cls.__doc__ or "")
    assert recommended is not None
    assert recommended[1] == RECOMMENDED[optimizer]
    result = train({"optimizer": optimizer, "learning_rate.lr": float(recommended[1]), **RUN})
    assert result.history[-1]["val_accuracy"] >= (0.96 if optimizer == "AdaBelief" else 0.95)


@pytest.mark.slow
def test_cnn_learns_the_digits() -> None:
    """The convolutional network reaches 0.98."""
    result = train({"model.graph": "CNN", "early_stopping.upper_threshold": 0.98, **RUN})
    assert result.best >= 0.98


def test_split_is_stratified() -> None:
    """The split is 80 to 20 in every class, no image is in both parts, and pixels are from 0 to 1."""
    from aip_plugins.scenarios.tutorial.datasets import load

    (images, labels), (held_out, held_out_labels) = load("digits")
    assert len(images) + len(held_out) == 1797
    shares = np.bincount(held_out_labels) / (np.bincount(labels) + np.bincount(held_out_labels))
    assert (abs(shares - 0.2) < 0.01).all()
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in held_out}


def test_digits_equal_scikit_learn() -> None:
    """The built-in file has the published data: sums of all pixels and labels, and the first image's first row."""
    from aip_plugins.scenarios.tutorial.datasets import load

    (images, labels), (held_out, held_out_labels) = load("digits")
    pixels = (images.sum(dtype=np.float64) + held_out.sum(dtype=np.float64)) * 16
    assert round(pixels) == 561718
    assert int(labels.sum() + held_out_labels.sum()) == 8070
    np.testing.assert_array_equal(images[0][0] * 16, [0, 0, 5, 13, 9, 1, 0, 0])


def test_mnist_without_network(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """Without a network and a copy, MNIST is refused in one sentence with advice."""
    from aip_plugins.scenarios.tutorial.datasets import load

    from aipcore.errors import DataError

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", _refuse)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path), raising=False)
    with refused(DataError):
        load("mnist")


def test_mnist_from_a_cached_copy(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in Keras' cache is used without a network."""
    from aip_plugins.scenarios.tutorial.datasets import load

    arrays = {name: np.full((4, 28, 28), 255, np.uint8) for name in ("x_train", "x_test")}
    arrays |= {name: np.arange(4, dtype=np.uint8) for name in ("y_train", "y_test")}
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setattr("keras.src.datasets.mnist.get_file", lambda *_, **__: str(tmp_path / "mnist.npz"))
    (images, labels), _ = load("mnist")
    assert images.shape == (4, 28, 28)
    assert images.max() == 1
    assert labels.dtype == np.int32


def _refuse(*_: Any, **__: Any) -> None:
    raise OSError("no network")


def test_summaries() -> None:
    """Misclassified digits are sorted by decreasing confidence; without any there is no grid."""
    from aip_plugins.scenarios.tutorial.summaries import digit_summaries

    images = np.stack([np.full((2, 2), number / 4, np.float32) for number in range(4)])
    labels = np.array([0, 1, 2, 3])
    logits = np.zeros((4, 10), np.float32)
    logits[[0, 1, 2, 3], [0, 7, 8, 3]] = [5, 1, 4, 5]
    records = {record.name: record for record in digit_summaries(images, labels, logits)}
    assert set(records) == {"logits/of_the_digit", "logits/of_the_others", "digit", "misread"}
    np.testing.assert_array_equal(records["misread"].images, images[[2, 1]])
    np.testing.assert_array_equal(records["logits/of_the_digit"].values, [5, 0, 0, 5])
    assert records["digit"].labels.sum() == 4
    np.testing.assert_allclose(records["digit"].scores.sum(axis=-1), 1, rtol=1e-6)
    assert "misread" not in {record.name for record in digit_summaries(images[[0, 3]], labels[[0, 3]], logits[[0, 3]])}


def test_shifted_images() -> None:
    """With shifts of one pixel, whole images move in all nine ways, and the digits are still learned."""
    from aip_plugins.scenarios.tutorial.datasets import load
    from aip_plugins.scenarios.tutorial.processors import RandomShift

    from aipcore.data.pipeline import Pipeline

    images, labels = load("digits")[0]
    pipeline = Pipeline(({"image": images}, {"digit": labels}), [RandomShift(1)], seed=1)
    moves = set()
    for epoch in range(2):
        for image, sample in zip(images[:200], pipeline.samples(epoch), strict=False):
            padded = np.pad(image, 1)
            found = [
                (down, right)
                for down in range(3)
                for right in range(3)
                if np.array_equal(padded[down : down + 8, right : right + 8], sample.inputs["image"])
            ]
            assert found
            moves.add(found[0])
    assert len(moves) == 9
    result = train({"data.shift": 1, "model.graph": "CNN", **RUN, "trainer.epochs": 8})
    assert result.best >= 0.95
