"""Each schedule against its closed form, in NumPy and float64: at 0, at the boundaries, at the end and beyond."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from aipcore.hooks.records import ScheduleParams
from aipcore.training.engine.learning_rate import Horizon, build_schedule

Array = npt.NDArray[np.float64]

LR = 0.003
PER_EPOCH = 10
EPOCHS = 20
STEPS = np.array([0, 1, 5, 9, 10, 11, 15, 19, 20, 25, 29, 30, 31, 49, 50, 51, 100, 150, 199, 200, 201, 250, 10_000])


def cosine(part: Array) -> Array:
    """Return the cosine decay from 1 at 0 to 0 at 1 and after."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(part, 0, 1))


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Array], Array]]] = {
    "constant": ("Constant", {}, np.ones_like),
    "exponential": ("ExponentialDecay", {}, lambda e: 0.99**e),
    "exponential, fast": ("ExponentialDecay", {"decay": 0.5}, lambda e: 0.5**e),
    "exponential, none": ("ExponentialDecay", {"decay": 1.0}, np.ones_like),
    "exponential, staircase": ("ExponentialDecay", {"decay": 0.9, "staircase": True}, lambda e: 0.9 ** np.floor(e)),
    "exponential, constant first": (
        "ExponentialDecay", {"decay": 0.9, "constant_epochs": 3.0}, lambda e: 0.9 ** np.maximum(0, e - 3),
    ),
    "exponential, constant first, staircase": (
        "ExponentialDecay", {"decay": 0.9, "constant_epochs": 2.5, "staircase": True},
        lambda e: 0.9 ** np.floor(np.maximum(0, e - 2.5)),
    ),
    "exponential, floor": (
        "ExponentialDecay", {"decay": 0.5, "min_fraction": 0.2}, lambda e: np.maximum(0.5**e, 0.2),
    ),
    "exponential, slower": ("ExponentialDecay", {"decay": 0.9, "decay_epochs": 2.5}, lambda e: 0.9 ** (e / 2.5)),
    "exponential, every third epoch": (
        "ExponentialDecay", {"decay": 0.9, "decay_epochs": 3.0, "staircase": True}, lambda e: 0.9 ** np.floor(e / 3),
    ),
    "exponential, every third epoch, constant first, floor": (
        "ExponentialDecay",
        {"decay": 0.7, "decay_epochs": 3.0, "staircase": True, "constant_epochs": 2.0, "min_fraction": 0.3},
        lambda e: np.maximum(0.7 ** np.floor(np.maximum(0, e - 2) / 3), 0.3),
    ),
    "cosine": ("CosineDecay", {}, lambda e: cosine(e / EPOCHS)),
    "cosine, floor": ("CosineDecay", {"min_fraction": 0.1}, lambda e: 0.1 + 0.9 * cosine(e / EPOCHS)),
    "cosine, shorter": ("CosineDecay", {"decay_epochs": 5.0}, lambda e: cosine(e / 5)),
    "cosine, longer": ("CosineDecay", {"decay_epochs": 40.0}, lambda e: cosine(e / 40)),
    "warmup, cosine": (
        "WarmupCosineDecay", {"warmup_epochs": 5.0},
        lambda e: np.where(e < 5, e / 5, cosine((e - 5) / 15)),
    ),
    "warmup from a fraction, cosine, floor": (
        "WarmupCosineDecay", {"warmup_epochs": 2.0, "warmup_fraction": 0.25, "min_fraction": 0.1},
        lambda e: np.where(e < 2, 0.25 + 0.75 * e / 2, 0.1 + 0.9 * cosine((e - 2) / 18)),
    ),
    "no warmup, cosine": ("WarmupCosineDecay", {"warmup_epochs": 0.0}, lambda e: cosine(e / EPOCHS)),
    "warmup, constant, cosine": (
        "WarmupConstantCosineDecay", {"warmup_epochs": 2.0, "constant_epochs": 3.0},
        lambda e: np.where(e < 2, e / 2, cosine((e - 5) / 15)),
    ),
    "warmup, constant, shorter cosine": (
        "WarmupConstantCosineDecay", {"warmup_epochs": 2.0, "constant_epochs": 3.0, "decay_epochs": 5.0},
        lambda e: np.where(e < 2, e / 2, cosine((e - 5) / 5)),
    ),
    "warmup, inverse root": (
        "WarmupDecay", {"warmup_epochs": 5.0},
        lambda e: np.minimum(e / 5, np.sqrt(5 / np.maximum(e, 1e-9))),
    ),
    "warmup from a fraction, inverse root": (
        "WarmupDecay", {"warmup_epochs": 5.0, "warmup_fraction": 0.1},
        lambda e: np.where(e < 5, 0.1 + 0.9 * e / 5, np.sqrt(5 / np.maximum(e, 1e-9))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_closed_form(case: str, make_schedule: Any) -> None:
    """The rates are equal to the precision of float32."""
    name, options, form = CASES[case]
    schedule = make_schedule(name, lr=LR, updates_per_epoch=PER_EPOCH, epochs=EPOCHS, **options)
    found = np.array([schedule(step).numpy() for step in STEPS])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LR * form(STEPS / PER_EPOCH), rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if "cosine" not in case])
@pytest.mark.parametrize("offset", [2.0, 2.5, 30.0, -2.0, -2.5, -30.0])
def test_offset(case: str, offset: float, make_schedule: Any) -> None:
    """At epoch e the rate is that of epoch e - offset_epochs; below 0, it is the rate at 0."""
    name, options, form = CASES[case]
    schedule = make_schedule(name, lr=LR, offset_epochs=offset, updates_per_epoch=PER_EPOCH, epochs=EPOCHS, **options)
    found = [schedule(step).numpy() for step in STEPS]
    expected = LR * form(np.maximum(STEPS / PER_EPOCH - offset, 0))
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("offset", [2.0, 2.5, -2.0, -0.5])
@pytest.mark.parametrize("name", ["CosineDecay", "WarmupCosineDecay", "WarmupConstantCosineDecay"])
def test_a_shifted_cosine_ends_with_the_run(name: str, offset: float, make_schedule: Any) -> None:
    """The schedule is that of a run shorter by the offset, or longer if the offset is below 0."""
    shifted = make_schedule(name, lr=LR, offset_epochs=offset, updates_per_epoch=PER_EPOCH, epochs=EPOCHS)
    warmup = 0 if name == "CosineDecay" else 1
    constant = 1 if name == "WarmupConstantCosineDecay" else 0
    length = EPOCHS - offset - warmup - constant
    for step in STEPS:
        e = max(step / PER_EPOCH - offset, 0)
        expected = LR * (e if e < warmup else cosine(np.array((e - warmup - constant) / length)))
        assert shifted(step).numpy() == pytest.approx(float(expected), rel=2e-7, abs=1e-12)


@pytest.mark.parametrize(
    ("offset", "updates"), [(0.26, 3), (-0.26, -3), (0.04, 0), (1e300, 10**15), (-1e300, -(10**15))]
)
def test_offsets_are_whole_updates(offset: float, updates: int, make_schedule: Any) -> None:
    """An offset is rounded to whole updates of the optimizer, however large it is."""
    options = {"offset_epochs": offset, "decay": 0.5, "updates_per_epoch": PER_EPOCH, "epochs": EPOCHS}
    schedule = make_schedule("ExponentialDecay", lr=LR, **options)
    found = [schedule(step).numpy() for step in STEPS]
    expected = LR * 0.5 ** (np.maximum(STEPS - updates, 0) / PER_EPOCH)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)


class Own(keras.optimizers.schedules.LearningRateSchedule):
    """A linear decay to 0 at the end of the run, which a plugin shifts by `offset_epochs` itself, or not."""

    def __init__(self, params: Any, horizon: Any, *, shifts: bool) -> None:
        self.lr = params.lr
        self.offset = params.offset_epochs * horizon.updates_per_epoch if shifts else 0.0
        self.total = horizon.total_updates - self.offset

    def __call__(self, step: Any) -> Any:
        done = keras.ops.maximum(keras.ops.cast(step, "float32") - self.offset, 0.0)
        return self.lr * (1 - done / self.total)


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("offset", [2.5, -2.5])
def test_schedules_of_others_are_shifted_once(offset: float, shifts: bool) -> None:
    """The core shifts a schedule that ignores `offset_epochs`, and not again one that applies it."""
    params = ScheduleParams(lr=LR, offset_epochs=offset)
    horizon = Horizon(updates_per_epoch=PER_EPOCH, epochs=EPOCHS)
    schedule = build_schedule(partial(Own, shifts=shifts), params, horizon)
    steps = np.arange(PER_EPOCH * EPOCHS + 1)
    shift = offset * PER_EPOCH
    expected = LR * (1 - np.maximum(steps - shift, 0) / (PER_EPOCH * EPOCHS - shift))
    np.testing.assert_allclose([schedule(step).numpy() for step in steps], expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["CosineDecay", "WarmupCosineDecay", "WarmupConstantCosineDecay"])
def test_no_time_left_to_fall(name: str, make_schedule: Any) -> None:
    """A run that ends before the decay starts has finite rates from 0 to lr."""
    schedule = make_schedule(name, lr=LR, offset_epochs=3.0, updates_per_epoch=PER_EPOCH, epochs=2)
    rates = np.array([schedule(step).numpy() for step in range(100)])
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert (rates <= np.float32(LR)).all()


def test_staircase_falls_at_the_same_update_of_every_epoch(make_schedule: Any) -> None:
    """An offset that is not a binary fraction neither delays nor advances a step of the staircase."""
    schedule = make_schedule(
        "ExponentialDecay", lr=1.0, decay=0.5, staircase=True, offset_epochs=0.1, updates_per_epoch=10, epochs=30
    )
    falls = [step for step in range(1, 300) if schedule(step).numpy() < schedule(step - 1).numpy()]
    assert falls == [10 * epoch + 1 for epoch in range(1, 30)]


@pytest.mark.parametrize("offset", [0, 4, -4])
def test_is_the_curve_of_tfaip(offset: int, make_schedule: Any) -> None:
    """Keras' staircase schedule, at whole epochs minus the offset and not below 0, is that of tfaip."""
    options = {
        "decay": 0.9,
        "decay_epochs": 3.0,
        "staircase": True,
        "min_fraction": 0.3,
        "offset_epochs": float(offset),
    }
    schedule = make_schedule("ExponentialDecay", lr=LR, updates_per_epoch=PER_EPOCH, epochs=EPOCHS, **options)
    peer = keras.optimizers.schedules.ExponentialDecay(LR, decay_steps=3, decay_rate=0.9, staircase=True)
    for step in STEPS:
        expected = max(0.3 * LR, float(peer(max(0, step // PER_EPOCH - offset))))
        assert schedule(step).numpy() == pytest.approx(expected, rel=1e-6)
        assert expected == pytest.approx(LR * max(0.3, 0.9 ** (max(0, step // PER_EPOCH - offset) // 3)), rel=1e-6)
