"""Parameters of the preparation of images for models of Calamari."""

from __future__ import annotations

from aipcore.params import above, at_least, between, field, params


@params
class CalamariParams:
    """Prepares a line as Calamari 2 does: cut around its center line, scaled, and with blank columns at both ends."""

    height: int = field(48, help="Height of the result in pixels. It must be --data.height.", check=between(16, 256))
    padding: int = field(16, help="Blank columns at each end.", check=at_least(0))
    extent: float = field(
        4.0, help="Half the height of the band, in mean distances of ink from the center line.", check=at_least(1)
    )
    smoothing: float = field(1.0, help="Deviation of the blur along the line, in heights of the image.", check=above(0))
    center_smoothing: float = field(
        0.3, help="Deviation of the blur of the center line, in heights of the image.", check=above(0)
    )
