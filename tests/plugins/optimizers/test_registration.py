"""Records and parameters of the optimizers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aipcore.hooks.manager import get_plugin_manager
from aipcore.hooks.records import OptimizerParams

CLIPPING = {"clip_value": None, "clip_norm": None, "clip_global_norm": None}
NO_DECAY = {"weight_decay": 0.0, "exclude_from_weight_decay": ()}
DEFAULTS = {
    "AdaBelief": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-14, "rectify": True, "amsgrad": False},
    "Adam": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False},
    "AdamW": {
        **NO_DECAY, "weight_decay": 0.004, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False,
    },
    "Adamax": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "LAMB": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6},
    "Lion": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.99},
    "Muon": {
        **NO_DECAY, "momentum": 0.95, "nesterov": True, "ns_steps": 5, "rms_rate": 0.2, "adam_lr_ratio": 1.0,
        "adam_beta_1": 0.9, "adam_beta_2": 0.999, "epsilon": 1e-7, "adam_layers": (),
    },
    "Nadam": {**NO_DECAY, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "RMSprop": {**NO_DECAY, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
    "SGD": {**NO_DECAY, "momentum": 0.0, "nesterov": False},
}  # fmt: skip


def test_all_are_registered() -> None:
    """Exactly the optimizers of the table are built in, each under its display name."""
    own = [entry.record.name for entry in get_plugin_manager().of_kind("optimizer") if entry.plugin.is_own]
    assert sorted(own) == sorted(DEFAULTS)


def test_defaults(name: str) -> None:
    """Every option of every optimizer has the default of the table."""
    import attrs

    cls = get_plugin_manager().params_class("optimizer", name)
    assert issubclass(cls, OptimizerParams)
    assert attrs.asdict(cls()) == {**CLIPPING, **DEFAULTS[name]}


def test_build_passes_on_every_option(name: str, make_optimizer: object) -> None:
    """A changed option reaches the optimizer's configuration: none is lost on the way."""
    assert callable(make_optimizer)
    renamed = {"exclude_from_weight_decay": "exclude_paths", "adam_layers": "exclude_layers"}
    for option, default in DEFAULTS[name].items():
        value = _another(option, default)
        config = make_optimizer(name, 0.5, **{option: value}).get_config()
        stored = config[renamed.get(option, option)]
        assert (tuple(stored) if isinstance(stored, list) else stored) == value, option
        assert float(config["learning_rate"]) == 0.5


@pytest.mark.parametrize("package", ["aip_plugins.optimizers", "aip_plugins.optimizers.params"])
def test_parameters_are_light(package: str) -> None:
    """Neither the records nor the parameters import a numerical package."""
    code = f"import sys, {package}; print(sorted({{'tensorflow', 'keras', 'numpy', 'grain'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def _another(option: str, default: object) -> object:
    if isinstance(default, bool):
        return not default
    if isinstance(default, tuple):
        return ("bias$", "^head/")
    if isinstance(default, int):
        return default + 1
    assert isinstance(default, float)
    return default / 2 if default else 0.25
