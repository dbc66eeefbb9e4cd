"""A plugin manager for the plugins that a test has installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import PluginManager

OPTIMIZER = """
from aipcore.plugin import OptimizerParams, OptimizerRecord, field, hookimpl, params

@params
class Params(OptimizerParams):
    '''Options of a made-up optimizer.'''
    twist: float = field(0.5, help="How much.")

def build(params, learning_rate):
    '''Builds nothing.'''
    return params.twist, learning_rate

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="NAME", summary="Made up.", params=Params, build=__name__ + ":build")]
"""


@pytest.fixture
def load(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PluginManager]]:
    """Yield a function that creates a manager from the arguments of `Switches`, with `site` on the path."""
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)
    yield lambda **switches: PluginManager(Switches(**switches))
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(getattr(module, "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def optimizer() -> Callable[[str], str]:
    """Return the source of a plugin that registers one optimizer of the given name."""
    return lambda name: OPTIMIZER.replace("NAME", name)
