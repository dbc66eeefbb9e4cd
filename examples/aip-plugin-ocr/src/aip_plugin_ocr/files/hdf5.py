"""Sets of lines in HDF5 files.

| data set | contents |
|---|---|
| `images` | for each line, its gray values as a flat array of uint8 |
| `images_dims` | for each line, height and width |
| `transcripts` | for each line, its text; or, with `codec`, the positions of its characters there |
| `codec` | the code points of the characters |

`transcripts` may be missing in files to predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import DataError

MOST_LINES = 10_000_000
"""The most lines of a file."""


@attrs.frozen
class Hdf5Line:
    """A line of a set.

    Attributes:
        path: the file.
        number: position in the file, counted from 0.
        text: its text, or None if it has none.
    """

    path: Path
    number: int
    text: str | None

    @property
    def meta(self) -> dict[str, Any]:
        """The file and the position of the line."""
        return {"path": str(self.path), "line": str(self.number), "number": self.number}

    def pixels(self) -> Any:
        """Return the image, read from the file: uint8 [height, width].

        Raises:
            DataError: the file cannot be read, or the image does not have its size.
        """
        import numpy as np
        from PIL import Image

        limit = Image.MAX_IMAGE_PIXELS or 2**40
        with _opened(self.path) as sets:
            shape = tuple(int(each) for each in sets["images_dims"][self.number])
            # A gray image may have a third axis.
            shape = shape[:2] if shape[2:] == (1,) else shape
            if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] > limit:
                raise DataError(
                    f"{self.path}, image {self.number}: {shape} is not the size of a gray image. Correct it."
                )
            values = np.asarray(sets["images"][self.number])
        if values.dtype != np.uint8 or values.size != shape[0] * shape[1]:
            raise DataError(
                f"{self.path}, image {self.number}: {values.size} values of {values.dtype} are not {shape[0]} x "
                f"{shape[1]} values of uint8. Correct it."
            )
        return values.reshape(shape)


def hdf5_lines(path: Path) -> list[Hdf5Line]:
    """Return the lines of a file. Their images are not read.

    Raises:
        DataError: the file cannot be read or has another layout.
    """
    with _opened(path) as sets:
        texts = _texts(path, sets)
        return [Hdf5Line(path, number, text or None) for number, text in enumerate(texts)]


def replace_texts(path: Path, texts: Mapping[int, str]) -> None:
    """Replace texts in a file by position of the line. The characters are stored in `codec`.

    Args:
        path: a copy of a set.
        texts: the new texts.
    """
    import h5py
    import numpy as np

    new = [texts.get(line.number, line.text or "") for line in hdf5_lines(path)]
    alphabet = sorted(set("".join(new)))
    places = {character: place for place, character in enumerate(alphabet)}
    with h5py.File(path, "r+") as file:
        for name in ("transcripts", "codec"):
            if name in file:
                del file[name]
        stored = file.create_dataset("transcripts", (len(new),), h5py.vlen_dtype(np.int32))
        for number, text in enumerate(new):
            stored[number] = np.array([places[character] for character in text], np.int32)
        file.create_dataset("codec", data=np.array([ord(character) for character in alphabet], np.int32))


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """Open a file and return its data sets. Data in other files is not read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            sets = {name: _data_set(path, file, name) for name in ("images", "images_dims", "transcripts", "codec")}
            sizes = [len(sets[name]) for name in ("images", "images_dims", "transcripts") if sets[name] is not None]
            if sets["images"] is None or sets["images_dims"] is None:
                raise DataError(f"{path} has no data sets images and images_dims. Use a file with sets of lines.")
            if len(set(sizes)) > 1 or sizes[0] > MOST_LINES:
                raise DataError(f"{path}: images, images_dims and transcripts have {sizes} lines. They must be equal.")
            yield sets
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}). Check the file.") from error


def _data_set(path: Path, file: Any, name: str) -> Any:
    import h5py

    if name not in file:
        return None
    found = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or found.ndim < 1:
        raise DataError(f"{path}: {name} is not a data set of this file. Store it there.")
    return found


def _texts(path: Path, sets: Mapping[str, Any]) -> list[str | None]:
    import h5py

    stored, codec = sets["transcripts"], sets["codec"]
    if stored is None:
        return [None] * len(sets["images"])
    try:
        if codec is None:
            if h5py.check_string_dtype(stored.dtype) is None:
                raise DataError(f"{path}: transcripts are not strings. Add the data set codec with their characters.")
            return [each.decode("utf-8") for each in stored[()]]
        characters = {place: chr(code) for place, code in enumerate(codec[()])}
        return ["".join(characters[place] for place in each) for each in stored[()]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: transcripts are not UTF-8 or positions in codec, or codec does not contain code points. Correct "
            "the file."
        ) from error
