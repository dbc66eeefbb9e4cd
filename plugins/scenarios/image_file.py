"""Image files as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aipcore.errors import DataError

PHOTOMETRIC = 262
"""TIFF tag that is 0 if the value 0 is white. Pillow honors it for 8 bits only."""


def read_image(path: Path, mode: str) -> Any:
    """Return the pixels of an image file, upright, as uint8 of shape [height, width] or [height, width, 3].

    16-bit values are scaled by their range, floats by the range from 0 to 1. Transparent pixels become white.

    Args:
        path: the image file.
        mode: `L` (gray) or `RGB`.

    Raises:
        DataError: the file cannot be read, has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or has pixels of an
            unknown range.
    """
    try:
        # Given a path, Pillow 13 maps a rotated TIFF into memory with height and width exchanged.
        with path.open("rb") as file, Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS
            # Only the header has been read so far.
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            return np.asarray(_with_8_bits(image, path).convert(mode))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image in a known format. Fix it, or leave it out of the list.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"The image {path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels. Scale it down, or leave it out of the "
            "list."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many types for damaged files.
        raise DataError(
            f"The image {path} cannot be read ({error or type(error).__name__}). Fix it, or leave it out of the list."
        ) from error


def _with_8_bits(image: Image.Image, path: Path) -> Image.Image:
    inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0
    white = 65_535 if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM") else 1
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float64) / white
        # NaN is not in the range either.
        if (image.mode == "I" and white == 1) or not ((values >= 0) & (values <= 1)).all():
            kind = "floats outside 0 to 1" if image.mode == "F" else "32-bit integers"
            raise DataError(
                f"The image {path} has {kind}, so the values of black and white are unknown. Save it with "
                "8 or 16 bits per channel."
            )
        return Image.fromarray(np.rint(255 * (1 - values if inverted else values)).astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image
