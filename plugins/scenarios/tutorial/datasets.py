"""The datasets of the tutorial: digits included in aip, or datasets fetched by Keras."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.errors import DataError

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Part = tuple[Images, Labels]

SIZES = {"digits": 8, "mnist": 28, "fashion_mnist": 28}
"""Height and width of the images of each dataset."""


def load(name: str) -> tuple[Part, Part]:
    """Return the training part and the validation part of a dataset.

    Args:
        name: `digits`, `mnist` or `fashion_mnist`.

    Returns:
        two pairs of images (float32, [samples, height, width], from 0 to 1) and labels (int32, [samples], 0 to 9).

    Raises:
        DataError: Keras has no copy of the dataset and cannot fetch one.
    """
    return _digits() if name == "digits" else _from_keras(name)


def _digits() -> tuple[Part, Part]:
    with (files(__package__) / "data" / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images = stored["images"].astype(np.float32) / 16
        labels = stored["labels"].astype(np.int32)
    held_out = every_fifth_of_each_class(labels)
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def every_fifth_of_each_class(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return a mask of every fifth sample of each class: a stratified split of 80 to 20."""
    marked = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        marked[np.flatnonzero(labels == label)[4::5]] = True
    return marked


def _from_keras(name: str) -> tuple[Part, Part]:
    import keras

    module: Any = {"mnist": keras.datasets.mnist, "fashion_mnist": keras.datasets.fashion_mnist}[name]
    try:
        (train_images, train_labels), (val_images, val_labels) = module.load_data()
    except Exception as error:
        raise DataError(
            f"--data.dataset {name} is not on this machine, and the download failed "
            f"({' '.join(str(error).split())}). Connect to the network once, or use --data.dataset digits."
        ) from error
    return (
        (train_images.astype(np.float32) / 255, train_labels.astype(np.int32)),
        (val_images.astype(np.float32) / 255, val_labels.astype(np.int32)),
    )
