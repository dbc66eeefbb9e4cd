"""Sets of lines in HDF5 files."""

from __future__ import annotations

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from aip_plugin_ocr.files.lines import open_lines
from aip_plugin_ocr.files.writer import pages_writer
from pages import line_images

from aipcore.errors import DataError

TEXTS = ["ab", "", "ü€", "b a"]


def write_set(path, images, texts, *, codec=True):
    """Write a set of lines with h5py alone."""
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("images", (len(images),), h5py.vlen_dtype(np.uint8))
        for number, image in enumerate(images):
            stored[number] = image.ravel()
        file["images_dims"] = [image.shape for image in images]
        if texts is None:
            return
        if not codec:
            file.create_dataset("transcripts", data=texts, dtype=h5py.string_dtype())
            return
        alphabet = sorted(set("".join(texts)), reverse=True)
        stored = file.create_dataset("transcripts", (len(texts),), h5py.vlen_dtype(np.int32))
        for number, text in enumerate(texts):
            stored[number] = [alphabet.index(character) for character in text]
        file["codec"] = [ord(character) for character in alphabet]


def opened(path, *, targets=True):
    return open_lines([path], targets=targets, text_index=0, images=None)


@pytest.mark.parametrize("codec", [True, False])
def test_lines_of_a_set(tmp_path, codec):
    """Each line is a sample with its image and its text. Lines without text are left out and counted."""
    images = line_images(4)
    write_set(tmp_path / "a.h5", images, TEXTS, codec=codec)
    source = opened(tmp_path / "a.h5")
    assert source.texts() == ["ab", "ü€", "b a"]
    assert source.without_text == 1
    assert [source[number].targets for number in range(3)] == source.texts()
    assert all((source[number].inputs == images[place]).all() for number, place in enumerate((0, 2, 3)))
    assert source[1].meta == {"path": str(tmp_path / "a.h5"), "line": "2", "number": 2}


def test_images_are_read_on_demand(tmp_path):
    """A damaged image is an error only when it is read, and gray images may have a third axis."""
    images = line_images(2)
    write_set(tmp_path / "a.hdf5", images, None)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["images"][1] = np.zeros(7, np.uint8)
        del file["images_dims"]
        file["images_dims"] = [(*image.shape, 1) for image in images]
    source = opened(tmp_path / "a.hdf5", targets=False)
    assert (source[0].inputs == images[0]).all()
    with pytest.raises(DataError, match=r"a\.hdf5, image 1: 7 values of uint8 are not 20 x 31"):
        source[1]
    with pytest.raises(DataError, match="None of the 2 lines has a text"):
        opened(tmp_path / "a.hdf5")


def test_predictions_become_a_copy(tmp_path):
    """The copy has the images of the original and the predicted texts. Lines without a prediction keep theirs."""
    images = line_images(4)
    write_set(tmp_path / "a.h5", images, TEXTS)
    before = (tmp_path / "a.h5").read_bytes()
    source = opened(tmp_path / "a.h5", targets=False)
    texts = {0: "new", 1: "\U0001d538", 3: ""}
    predictions = [SimpleNamespace(meta=source[place].meta, outputs={"text": text}) for place, text in texts.items()]
    pages_writer(1)(tmp_path / "read.pages", iter(predictions), {})
    again = opened(tmp_path / "read.pages" / "a.pred.h5", targets=False)
    assert again.texts() == ["new", "\U0001d538", "ü€", ""]
    assert all((again[number].inputs == images[number]).all() for number in range(4))
    assert (tmp_path / "a.h5").read_bytes() == before


def _external(file):
    del file["images"]
    file["images"] = h5py.ExternalLink("/other.h5", "images")


def _codes(file):
    file["transcripts"][0] = np.array([-1], np.int32)


def _no_codec(file):
    del file["codec"]


def _fewer(file):
    del file["images_dims"]
    file["images_dims"] = [(20, 30)]


def _huge(file):
    file["images_dims"][0] = (2**31, 2**31)


def _nothing(file):
    del file["images"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_external, "images is not a data set of this file"),
        (_codes, "not UTF-8 or positions in codec"),
        (_no_codec, "transcripts are not strings"),
        (_fewer, r"have \[4, 1, 4\] lines"),
        (_huge, "is not the size of a gray image"),
        (_nothing, "has no data sets images and images_dims"),
    ],
)
def test_damaged_sets(tmp_path, damage, message):
    """A file of another layout, or with data elsewhere, is an error that names it."""
    write_set(tmp_path / "a.h5", line_images(4), TEXTS)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        damage(file)
    with pytest.raises(DataError, match=rf"a\.h5.*{message}"):
        opened(tmp_path / "a.h5")[0]


def test_no_hdf5(tmp_path):
    """A file that is not HDF5 is an error that names it."""
    (tmp_path / "a.h5").write_text("text")
    with pytest.raises(DataError, match=r"a\.h5 cannot be read as HDF5"):
        opened(tmp_path / "a.h5")
