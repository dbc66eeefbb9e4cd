"""Parameters of the processors of line images."""

from __future__ import annotations

from aipcore.params import above, at_least, between, field, params


@params
class DewarpParams:
    """Makes a bent or slanted line straight."""

    smoothing: float = field(
        0.5,
        help="Width of the Gaussian window, in heights of the image. Greater values follow slower bends.",
        check=above(0),
    )
    extent: float = field(
        4.0,
        help="Half the height of the result, in deviations. The deviation is the mean distance of ink from the center.",
        check=at_least(1),
    )


@params
class LevelsParams:
    """Stretches the contrast between two percentiles to black and white."""

    dark: float = field(1.0, help="Percentile of the gray values that becomes black.", check=between(0, 49))
    light: float = field(99.0, help="Percentile of the gray values that becomes white.", check=between(51, 100))


@params
class BackgroundParams:
    """Divides by the brightness of the paper, which makes it white."""

    size: float = field(
        0.5, help="Largest size of ink, in heights of the image. It must be above the width of strokes.", check=above(0)
    )
