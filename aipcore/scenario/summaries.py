"""What a scenario can show in TensorBoard beside curves: images, histograms, and precision against recall.

Light records; arrays are NumPy arrays or whatever converts to them.
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(eq=False)
class Image:
    """One image.

    Attributes:
        name: its heading in TensorBoard.
        pixels: shape [height, width] or [height, width, channels] with 1, 3 or 4 channels; uint8 from 0 to 255, or
            bool or float from 0 to 1 (further values are cut off).
        text: a sentence below the heading, in Markdown; TensorBoard shows that of the first time.
    """

    name: str
    pixels: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class ImageGrid:
    """Images of equal size side by side as one image, in reading order.

    Small images are enlarged, each pixel to a square, so that they can be told apart.

    Attributes:
        name: the grid's heading in TensorBoard.
        images: shape [images, height, width] or [images, height, width, channels]; values as in `Image`. The first 64
            are shown.
        text: see `Image`.
    """

    name: str
    images: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class Histogram:
    """How values are distributed, epoch by epoch.

    Attributes:
        name: its heading in TensorBoard.
        values: finite numbers of any shape, at least one.
        text: see `Image`.
    """

    name: str
    values: Any
    text: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class PRCurve:
    """Precision against recall of a yes-or-no decision, at all thresholds.

    Attributes:
        name: its heading in TensorBoard.
        labels: what is true: bool (or 0 and 1), of any shape, at least one.
        scores: from 0 to 1, of the same shape; a score of at least the threshold means yes.
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
