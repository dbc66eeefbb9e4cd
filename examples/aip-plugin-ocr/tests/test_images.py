"""Processors of line images."""

from __future__ import annotations

import numpy as np
import pytest
from aip_plugin_ocr.images.center_line import center_line
from aip_plugin_ocr.images.processors import dewarped, levelled, without_background

HEIGHT, WIDTH = 64, 800


def bar(center, half=4, paper=220, ink=30):
    """Return a bar along a center line, with the exact gray values of pixels that it covers in part."""
    y = np.arange(HEIGHT)[:, None]
    # A pixel extends half a unit to both sides of its center.
    covered = np.clip(np.minimum(y + 0.5, center + half) - np.maximum(y - 0.5, center - half), 0, 1)
    return np.rint(paper + (ink - paper) * covered).astype(np.uint8)


def ink_center(pixels):
    """Return the center of mass of the ink in each column."""
    ink = 220.0 - pixels
    return (np.arange(len(pixels))[:, None] * ink).sum(axis=0) / ink.sum(axis=0)


X = np.arange(WIDTH)
BENDS = {
    "straight": np.full(WIDTH, 25.0),
    "slanted": 20 + 24 * X / WIDTH,
    "sine": 32 + 10 * np.sin(2 * np.pi * X / WIDTH),
    "parabola": 18 + 28 * (2 * X / WIDTH - 1) ** 2,
}


@pytest.mark.parametrize("bend", BENDS)
def test_dewarped_lines_are_straight(bend):
    """A bent bar becomes a straight one, to a pixel, in the middle of the image."""
    made = dewarped(bar(BENDS[bend]), smoothing=0.5, extent=4)
    center = ink_center(made)
    assert np.abs(center - (len(made) - 1) / 2).max() < 1
    # The mean distance from the center of a bar is half its half height: 2 pixels, or less without the pale edges.
    assert len(made) in (15, 17, 19)
    assert made.shape[1] == WIDTH
    assert np.abs((220.0 - made).sum(axis=0) / 190 - 8).max() < 0.2


def test_center_line_is_exact_for_straight_lines():
    """The local linear fit has no error on a line of any slant, at its ends and across gaps too."""
    exact = 12.3 + 0.05 * np.arange(400)
    y = np.arange(HEIGHT)
    low = np.floor(exact).astype(int)
    ink = np.zeros((HEIGHT, 400))
    ink[low, np.arange(400)] = 1 - (exact - low)
    ink[low + 1, np.arange(400)] = exact - low
    ink[:, 150:190] = 0
    assert np.allclose((y[:, None] * ink).sum(axis=0)[:150], exact[:150])
    assert np.abs(center_line(ink, 20) - exact).max() < 1e-6


def test_center_line_is_a_weighted_least_squares_fit():
    """The moments give the solution of NumPy's least squares in each column."""
    generator = np.random.default_rng(1)
    ink = generator.random((10, 60)) ** 4
    found = center_line(ink, 6.0)
    u, y = np.meshgrid(np.arange(60), np.arange(10))
    for x in (0, 7, 30, 59):
        weights = np.sqrt(np.exp(-((u - x) ** 2) / 72) * ink * (np.abs(u - x) <= 24)).ravel()
        matrix = np.stack([np.ones(600), (u - x).ravel()], axis=1) * weights[:, None]
        fitted = np.linalg.lstsq(matrix, y.ravel() * weights, rcond=None)[0][0]
        assert abs(found[x] - fitted) < 1e-6


@pytest.mark.parametrize("ink", [0, 1])
def test_dewarping_without_a_line(ink):
    """An empty image is unchanged, and a single dot gives an image."""
    pixels = np.full((30, 50), 200, np.uint8)
    pixels[10:18, 20:28] -= np.uint8(150 * ink)
    made = dewarped(pixels, 0.5, 4)
    assert made.shape[1] == 50
    assert (made == pixels).all() if not ink else made.min() == 50


def test_levels():
    """The percentiles become black and white, values between them are linear, and flat images stay."""
    pixels = np.repeat(np.arange(50, 151, dtype=np.uint8), 4).reshape(4, 101)
    low, high = np.percentile(pixels, [10, 80])
    expected = np.rint(255 * np.clip((pixels.astype(float) - low) / (high - low), 0, 1))
    made = levelled(pixels, 10, 80)
    assert made.dtype == np.uint8
    assert (made == expected).all()
    assert (made.min(), made.max()) == (0, 255)
    flat = np.full((4, 9), 90, np.uint8)
    assert (levelled(flat, 1, 99) == flat).all()


def test_background():
    """Under light that falls off linearly, paper becomes white, and ink its share of the light."""
    light = np.linspace(120, 240, WIDTH)[None, :] * np.ones((HEIGHT, 1))
    reflected = np.ones((HEIGHT, WIDTH))
    reflected[20:40, 100:700:12] = 0.25
    pixels = np.rint(light * reflected).astype(np.uint8)
    made = without_background(pixels, 0.3).astype(float)
    # The closing and the mean of a linear function are the function itself, except near the ends of the image.
    # Gray values are rounded to one half, of 120 at least.
    inner = np.s_[:, 20:-20]
    assert np.abs(made - 255 * reflected)[inner].max() < 255 / 120 + 1


def test_processors_are_deterministic():
    """The result for a line is the same each time and does not depend on the strides of the array."""
    generator = np.random.default_rng(2)
    pixels = np.clip(bar(BENDS["sine"]) + generator.normal(0, 10, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
    for function in (
        lambda image: dewarped(image, 0.5, 4),
        lambda image: levelled(image, 1, 99),
        lambda image: without_background(image, 0.5),
    ):
        assert (function(pixels) == function(np.asfortranarray(pixels))).all()
        assert np.abs(ink_center(dewarped(pixels, 0.5, 4)).std()) < 1
