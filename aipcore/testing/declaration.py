"""Declarations of a plugin's author for the conformance kit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.discovery import Entry
from aipcore.params.names import nearest, normalize, one_of

ATTRIBUTE = "AIP_TESTING"
"""Name of the mapping from plugin name to declaration, in the module that an entry point names."""


def _frozen_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(given)


@attrs.frozen(kw_only=True)
class Declaration:
    """Capabilities of a plugin, and its known failures.

    Attributes:
        expected_failures: from the name of a check to the reason why the plugin fails it. A listed check that passes
            counts as a failure, so that the list stays correct.
        params: parameter values for all checks, by dotted name; required if some parameters have no default.
        rates: optimizer: learning rates to try on the two functions to minimize; one of them must succeed.
        dtypes: optimizer: supported dtypes of variables.
        xla: optimizer: True if XLA can compile it.
        golden: optimizer: `"module:function"`, a function that returns `GoldenSteps`.
        samples: scenario: number of samples to overfit.
        steps: scenario: number of optimizer updates for this.
        learning_rate: scenario: learning rate of Adam for this.
        overfit: scenario: largest allowed final loss, as a fraction of the initial loss.
        observer: callback: True if the callback does not influence training.
        images: callback: True if the callback requires a scenario with an image input.
        tolerance: exporter: largest allowed difference from an output of the model, relative to the largest absolute
            value of the output or to 1 if that is greater.
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
    """Reference steps of an optimizer from an independent computation.

    Attributes:
        params: options of the optimizer.
        learning_rate: constant learning rate.
        start: weights before the first step.
        gradients: gradients of shape [steps, *start.shape].
        weights: weights after each step, shape [steps, *start.shape].
        tolerance: absolute and relative tolerance.
    """

    params: Mapping[str, Any]
    learning_rate: float
    start: Any
    gradients: Any
    weights: Any
    tolerance: float = 1e-5


def declared_for(entry: Entry, given: Mapping[str, Any] | None = None) -> Declaration:
    """Return the declaration of a plugin: that of its module, updated by `given`.

    Raises:
        PluginError: a declaration has an unknown key.
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
            hint = f"did you mean {one_of(near)}?" if near else f"available: {', '.join(known)}."
            raise PluginError(f"{entry.title} declares {key!r}, which is not a field of Declaration; {hint}")
    return Declaration(**found)
