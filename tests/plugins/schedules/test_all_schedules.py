"""All built-in schedules times all checks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import attrs
import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.hooks.manager import get_plugin_manager
from aipcore.hooks.records import ScheduleParams
from aipcore.params import Layer, resolve
from aipcore.scenario.params import ScenarioParams
from aipcore.training.params import run_params_class

SHARED = {"lr": 0.001, "offset_epochs": 0.0}
COSINE = {"min_fraction": 0.0, "decay_epochs": None}
WARMUP = {"warmup_epochs": 1.0, "warmup_fraction": 0.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Constant": SHARED,
    "ExponentialDecay": {
        **SHARED, "decay": 0.99, "decay_epochs": 1.0, "constant_epochs": 0.0, "min_fraction": 0.0,
        "staircase": False,
    },
    "CosineDecay": {**SHARED, **COSINE},
    "WarmupCosineDecay": {**SHARED, **COSINE, **WARMUP},
    "WarmupConstantCosineDecay": {**SHARED, **COSINE, **WARMUP, "constant_epochs": 1.0},
    "WarmupDecay": {**SHARED, **WARMUP},
}  # fmt: skip


@pytest.fixture(params=DEFAULTS)
def name(request: pytest.FixtureRequest) -> str:
    """Return each built-in schedule in turn."""
    return str(request.param)


def test_all_are_registered() -> None:
    """Exactly the schedules of the table are built in."""
    own = [entry.record.name for entry in get_plugin_manager().of_kind("schedule") if entry.plugin.is_own]
    assert sorted(own) == sorted(DEFAULTS)


def test_defaults(name: str) -> None:
    """Every option of every schedule has the default of the table."""
    plugins = get_plugin_manager()
    cls = plugins.params_class("schedule", name)
    assert issubclass(cls, ScheduleParams)
    assert attrs.asdict(cls()) == DEFAULTS[name]


@pytest.mark.parametrize("module", ["aip_plugins.schedules", "aip_plugins.schedules.params"])
def test_parameters_are_light(module: str) -> None:
    """Neither the records nor the parameters import a numerical package."""
    code = f"import sys, {module}; print(sorted({{'tensorflow', 'keras', 'numpy', 'grain'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("jit_compile", [False, True])
def test_is_pure_and_compiles_once(name: str, jit_compile: bool, make_schedule: Any) -> None:
    """The rate depends only on the step: in any order, compiled or not, from one trace."""
    schedule = make_schedule(name, lr=0.01)
    compiled = tf.function(schedule, autograph=False, jit_compile=jit_compile)
    steps = [0, 1, 9, 10, 55, 199, 200, 500]
    expected = [schedule(step).numpy() for step in steps]
    for step, rate in reversed(list(zip(steps, expected, strict=True))):
        np.testing.assert_allclose(compiled(tf.constant(step, tf.int64)).numpy(), rate, rtol=3e-7, atol=1e-12)
    assert compiled.experimental_get_tracing_count() == 1
    assert [schedule(step).numpy() for step in steps] == expected


@pytest.mark.parametrize("updates_per_epoch", [1, 7, 2**20 + 1])
def test_long_runs(name: str, updates_per_epoch: int, make_schedule: Any) -> None:
    """Steps up to 2^31 and more give finite rates, and neighbours in a slow decay stay distinct."""
    schedule = make_schedule(name, lr=0.01, updates_per_epoch=updates_per_epoch, epochs=2**12)
    for step in (0, 1, 2**24 + 1, 2**31 - 1, 2**31, 2**40):
        rate = schedule(tf.constant(step, tf.int64)).numpy()
        assert np.isfinite(rate)
        assert 0 <= rate <= np.float32(0.01)


def test_steps_beyond_float32_stay_apart(make_schedule: Any) -> None:
    """In a staircase decay, the boundary after 2^24 updates is exact."""
    schedule = make_schedule("ExponentialDecay", lr=1.0, decay=0.5, staircase=True, updates_per_epoch=2**24 + 3)
    boundary = 3 * (2**24 + 3)
    rates = [schedule(tf.constant(step, tf.int64)).numpy() for step in (boundary - 1, boundary, boundary + 1)]
    assert rates == [0.25, 0.125, 0.125]


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_step_may_have_any_number_type(name: str, dtype: str, make_schedule: Any) -> None:
    """Keras passes its int variable, tests pass Python ints, some callers floats."""
    schedule = make_schedule(name, lr=0.01)
    for step in (0, 3, 10, 200):
        expected = schedule(step).numpy()
        assert schedule(tf.constant(step, dtype)).numpy() == expected
        assert schedule(keras.Variable(step, dtype=dtype)).numpy() == expected


def test_configuration_comes_back(name: str, make_schedule: Any) -> None:
    """A schedule restored from JSON gives the same rates."""
    other = {"lr": 0.02, "offset_epochs": 1.5}
    changed = {
        option: default + 0.5 for option, default in DEFAULTS[name].items() if option.endswith("_epochs") and default
    }
    first = make_schedule(name, **{**changed, **other})
    text = json.dumps(keras.saving.serialize_keras_object(first))
    second = keras.saving.deserialize_keras_object(json.loads(text))
    assert second.get_config() == first.get_config()
    for step in (0, 12, 17, 40, 199, 1000):
        assert first(step).numpy() == second(step).numpy()


def test_drives_an_optimizer(name: str, make_schedule: Any) -> None:
    """Update number n, from 0, uses the rate of step n."""
    schedule = make_schedule(name, lr=0.5, updates_per_epoch=2, epochs=4)
    optimizer = keras.optimizers.SGD(schedule)
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    moved = []
    for _ in range(9):
        before = variable.numpy()
        optimizer.apply([tf.constant(-1.0)], [variable])
        moved.append(variable.numpy() - before)
    np.testing.assert_allclose(moved, [schedule(step).numpy() for step in range(9)], rtol=1e-5, atol=1e-6)


def test_keeps_the_rate_of_the_scenario(name: str) -> None:
    """With any schedule of the user, `lr` and the optimizer's `weight_decay` keep the scenario's values."""
    scenario = {"learning_rate.lr": 0.02, "optimizer.weight_decay": 0.1}
    words = ("--learning_rate", name, "--optimizer", "AdamW")
    root, plugins = run_params_class(ScenarioParams), get_plugin_manager()
    done: Any = resolve(root, [Layer.of_scenario("mine", scenario), Layer.from_arguments(words)], plugins)
    trainer = done.value.trainer
    assert (trainer.learning_rate.params.lr, trainer.optimizer.params.weight_decay) == (0.02, 0.1)
    assert done.origins["trainer.learning_rate.lr"] == "scenario mine"
