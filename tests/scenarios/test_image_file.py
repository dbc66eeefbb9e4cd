"""Image files of every kind, against NumPy."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aip_plugins.scenarios.image_file import read_image
from PIL import Image

from aipcore.errors import DataError

RAMP = np.linspace(0, 65_535, 60).round().reshape(6, 10).astype(np.uint16)
GRAY = np.rint(RAMP / 257).astype(np.uint8)


def png(pixels: np.ndarray[Any, Any], color: int, side: int | None = None) -> bytes:
    """Return a PNG of 16 bits, encoded by the specification; its header may claim a larger size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side or pixels.shape[1], side or pixels.shape[0], 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bits_and_floats(tmp_path: Path) -> None:
    """All gray images of one ramp, in 16 bits and floats, become the ramp in 8 bits."""
    (tmp_path / "gray.png").write_bytes(png(RAMP, 0))
    (tmp_path / "gray.pgm").write_bytes(b"P5 10 6 65535\n" + RAMP.astype(">u2").tobytes())
    Image.fromarray(RAMP).save(tmp_path / "gray.tif")
    Image.fromarray((RAMP / 65_535).astype(np.float32)).save(tmp_path / "float.tif")
    # 0 is white: Pillow writes the tag without changing the values.
    Image.fromarray(65_535 - RAMP).save(tmp_path / "white_is_zero.tif", tiffinfo={262: 0})
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_image(path, "L"), GRAY, err_msg=path.name)
        np.testing.assert_array_equal(read_image(path, "RGB"), np.stack([GRAY] * 3, axis=-1), err_msg=path.name)


def test_16_bits_of_colors(tmp_path: Path) -> None:
    """Colours are within one step of the scaled 16 bits, as Pillow takes the high byte."""
    colors = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
    (tmp_path / "colors.png").write_bytes(png(colors, 2))
    found = read_image(tmp_path / "colors.png", "RGB")
    assert np.abs(found.astype(float) - colors / 257).max() <= 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 4), 200.0, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), 200, np.int32),
    ],
)
def test_unknown_ranges(tmp_path: Path, pixels: Any, refused: Any) -> None:
    """An image with an unknown range is refused, not clipped."""
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with refused(DataError):
        read_image(tmp_path / "a.tif", "L")


TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}
"""What the EXIF standard has a viewer do to the stored rows for each orientation."""


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_orientation(tmp_path: Path, suffix: str) -> None:
    """Photographs are upright for any orientation of the camera."""
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    stored[8:, 16:] = 128
    for orientation, turn in TURNED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(stored).save(path, exif=exif, **options)
        found, expected = read_image(path, "L"), turn(stored)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 8, orientation
    deep = tmp_path / "deep.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(deep, exif=exif)
    np.testing.assert_array_equal(read_image(deep, "L"), np.rot90(GRAY, -1))


def test_transparency(tmp_path: Path) -> None:
    """Black on transparent is black on white, not black on black."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[1, 1, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.full((4, 4), 255)
    expected[1, 1] = 0
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", "L"), expected)
    opaque = np.random.default_rng(0).integers(0, 256, (4, 4, 4)).astype(np.uint8)
    opaque[..., 3] = 255
    Image.fromarray(opaque).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png", "RGB"), opaque[..., :3])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_size_is_checked_before_decoding(tmp_path: Path, side: int, refused: Any) -> None:
    """An image of 100 million pixels or more is refused by its header, without its data."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(RAMP, 0, side))
    with refused(DataError):
        read_image(path, "L")


def test_damaged_files(tmp_path: Path) -> None:
    """Any failure of a decoder on a damaged file is a DataError."""
    random = np.random.default_rng(0)
    for suffix in ("png", "tif", "jpg", "gif", "bmp", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(GRAY).save(path)
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for position in random.integers(0, len(data), 4):
                data[position] = random.integers(0, 256)
            path.write_bytes(data[: random.integers(1, len(data) + 1)])
            with suppress(DataError):
                assert read_image(path, "L").dtype == np.uint8


def test_digits_of_16_bits(tmp_path: Path, refused: Any) -> None:
    """16-bit files of the tutorial are also scaled by their range, turned upright, or refused."""
    from aip_plugins.scenarios.tutorial.images import ImageFiles

    digit = np.zeros((8, 8), np.uint8)
    digit[1:4, 2] = 51
    Image.fromarray(digit).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(digit.astype(np.uint16) * 257, 0))
    Image.fromarray((digit / 255).astype(np.float32)).save(tmp_path / "c.tif")
    turned = Image.fromarray(np.rot90(digit, 1))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "d.png", exif=exif)
    np.save(tmp_path / "e.npy", digit)
    np.save(tmp_path / "f.npy", digit.astype(np.uint16) * 257)
    np.save(tmp_path / "g.npy", digit.astype(np.int64))
    np.save(tmp_path / "h.npy", (digit / 255).astype(np.float32))
    for sample in ImageFiles(sorted(tmp_path.iterdir()), "digits"):
        np.testing.assert_allclose(sample.inputs["image"], digit / 255, atol=1e-7, err_msg=sample.meta["path"])
    np.save(tmp_path / "wrong.npy", np.full((8, 8), 256))
    with refused(DataError):
        ImageFiles([tmp_path / "wrong.npy"], "digits")[0]


def test_a_file_that_is_not_an_image(tmp_path: Path) -> None:
    """The error of a sample gives aip's sentence about its file once, without the repr of a Python object."""
    from aip_plugins.scenarios.tutorial.images import ImageFiles

    from aipcore.data.adapters.indexed import IndexedSamples

    (tmp_path / "README.md").write_text("text")
    files = IndexedSamples(ImageFiles([tmp_path / "README.md"], "digits"), "Tutorial.predict_data()")
    with pytest.raises(DataError) as caught:
        files[0]
    assert str(caught.value) == (
        f"Sample 0 of Tutorial.predict_data() cannot be read: {tmp_path / 'README.md'} is not an image in a known "
        "format. Fix it, or leave it out of the list. To skip such samples, set --data.on_error skip."
    )
