"""What the author of a plugin tells the conformance kit about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.discovery import Entry
from aipcore.params.names import nearest, normalize, one_of

ATTRIBUTE = "AIP_TESTING"
"""The mapping from plugin name to declaration, in the module that an entry point names."""


def _frozen_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(given)


@attrs.frozen(kw_only=True)
class Declaration:
    """Capabilities of a plugin, and checks it is known to fail.

    Attributes:
        expected_failures: from the name of a check to the reason why the plugin fails it. A check that passes all the
            same is a failure: the list must be true.
        params: values of parameters for all checks, by dotted name; needed if some have no default.
        rates: optimizer: learning rates to try on the two functions that it has to minimise; one must do.
        dtypes: optimizer: types of variables that it supports.
        xla: optimizer: whether XLA can compile it.
        golden: optimizer: `"module:function"`; the function returns a `GoldenSteps`.
        samples: scenario: how many samples it must be able to learn by heart.
        steps: scenario: in how many optimizer updates.
        learning_rate: scenario: at which rate of Adam.
        overfit: scenario: to which fraction of the first loss.
        observer: callback: whether training goes on as if it were not there.
        images: callback: whether it needs a scenario whose input is an image.
        tolerance: exporter: how far an output may be from the model's, relative to the largest of its numbers or to
            1 if that is more.
    """

    expected_failures: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen_mapping)
    params: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen_mapping)
    rates: Sequence[float] = (0.1, 0.02, 0.002, 0.0005)
    dtypes: Sequence[str] = ("float32", "bfloat16", "float64")
    xla: bool = True
    golden: str | None = None
    samples: int = 8
    steps: int = 300
    learning_rate: float = 0.003
    overfit: float = 0.2
    observer: bool = True
    images: bool = False
    tolerance: float = 1e-5


@attrs.frozen(kw_only=True, eq=False)
class GoldenSteps:
    """Steps of an optimizer as an independent computation has them.

    Attributes:
        params: options of the optimizer.
        learning_rate: constant.
        start: the weights before the first step.
        gradients: shape [steps, *start.shape].
        weights: the weights after each step, of the same shape.
        tolerance: absolute and relative.
    """

    params: Mapping[str, Any]
    learning_rate: float
    start: Any
    gradients: Any
    weights: Any
    tolerance: float = 1e-5


def declared_for(entry: Entry, given: Mapping[str, Any] | None = None) -> Declaration:
    """The declaration of a plugin: that of its module, with what a call gives on top.

    Raises:
        PluginError: a declaration has a key that does not exist.
    """
    module = sys.modules.get(entry.plugin.module.partition(":")[0])
    found: dict[str, Any] = {}
    for name, values in getattr(module, ATTRIBUTE, {}).items():
        if normalize(name) == normalize(entry.record.name):
            found |= values
    found |= given or {}
    known = [attribute.name for attribute in attrs.fields(Declaration)]
    for key in found:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {one_of(near)}?" if near else f"it may have {', '.join(known)}."
            raise PluginError(f"{entry.title} declares {key!r} to the checks, which does not exist; {hint}")
    return Declaration(**found)
