"""TensorBoard records of a scenario beside curves: images, histograms, and precision-recall curves.

Arrays are NumPy arrays or values that convert to them.
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(eq=False)
class Image:
    """One image.

    Attributes:
        name: the heading in TensorBoard.
        pixels: shape [height, width] or [height, width, channels] with 1, 3 or 4 channels; uint8 from 0 to 255, or
                bool or float from 0 to 1 (clipped).
        text: a sentence below the heading, in Markdown; TensorBoard shows only the first one.
    """

    name: str
    pixels: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class ImageGrid:
    """Images of equal size in a grid, in reading order.

    Small images are enlarged by whole factors.

    Attributes:
        name: the heading in TensorBoard.
        images: shape [images, height, width] or [images, height, width, channels]; values as in `Image`. The first 64
            are shown.
        text: see `Image`.
    """

    name: str
    images: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class Histogram:
    """The distribution of values, epoch by epoch.

    Attributes:
        name: the heading in TensorBoard.
        values: finite numbers of any shape, at least one.
        text: see `Image`.
    """

    name: str
    values: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class PRCurve:
    """A precision-recall curve of a binary decision, at all thresholds.

    Attributes:
        name: the heading in TensorBoard.
        labels: the true labels: bool (or 0 and 1), of any shape, at least one.
        scores: from 0 to 1, of the same shape; a score of at least the threshold counts as positive.
        thresholds: number of thresholds, evenly spaced from 0 to 1.
        text: see `Image`.
    """

    name: str
    labels: Any
    scores: Any
    thresholds: int = attrs.field(default=101, kw_only=True)
    text: str = attrs.field(default="", kw_only=True)


Summary = Image | ImageGrid | Histogram | PRCurve
"""Any of these records."""
