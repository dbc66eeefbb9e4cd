"""Targets and predictions of one sample as text, where the scenario itself has no words for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aipcore.data.processor import PostProcessor, post_process
from aipcore.errors import TRACEBACK, ScenarioError
from aipcore.scenario.scenario import Scenario

MOST_NUMBERS = 8
"""Numbers of an array that are shown."""


def describe_answer(
    scenario: Scenario,
    post: Sequence[PostProcessor],
    targets: Mapping[str, Any],
    outputs: Mapping[str, Any],
    meta: Any,
) -> tuple[str, str]:
    """Return the target and the post-processed output of one sample as text, in the scenario's words if it has any.

    Args:
        scenario: may override `describe`.
        post: its post-processors.
        targets: by name, arrays of one sample.
        outputs: by name, the model's outputs for it.
        meta: the sample's.

    Raises:
        ScenarioError: a post-processor or `describe` fails.
    """
    answer = post_process(post, dict(outputs), meta)
    try:
        return scenario.describe(targets, answer) or describe_sample(targets, answer)
    except Exception as error:
        raise ScenarioError(
            f"{type(scenario).__name__}.describe() failed on a sample with meta {meta!r}: {type(error).__name__}: "
            f"{error} {TRACEBACK}."
        ) from error


def describe_sample(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
    """What is right and what was answered, in one line each.

    Text and numbers are shown as they are, and of a vector of scores for a single number as target, the place of the
    greatest. Of the outputs, those that have a target of their name are shown, or else all.

    Args:
        targets: by name, arrays of one sample.
        outputs: by name, what the post-processors made of the model's outputs.
    """
    right = {name: value for name, value in targets.items() if np.size(value)}
    answered = {}
    compared = {name: value for name, value in outputs.items() if name in right} or outputs
    for name, value in compared.items():
        target = right.get(name, next(iter(right.values())) if len(right) == 1 else None)
        array = np.asarray(value)
        is_class = target is not None and np.ndim(target) == 0 and np.asarray(target).dtype.kind in "iu"
        answered[name] = int(array.argmax()) if is_class and array.ndim == 1 and array.size > 1 else value
    return _text(right), _text(answered)


def _text(values: Mapping[str, Any]) -> str:
    shown = {name: _shown(value) for name, value in values.items()}
    return (
        next(iter(shown.values())) if len(shown) == 1 else ", ".join(f"{name} {text}" for name, text in shown.items())
    )


def _shown(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return str(value)
    numbers = [f"{number:.4g}" if array.dtype.kind == "f" else str(number) for number in array.ravel()[:MOST_NUMBERS]]
    return " ".join(numbers) + (" ..." if array.size > MOST_NUMBERS else "")
