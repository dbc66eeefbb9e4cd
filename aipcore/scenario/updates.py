"""Updates of a scenario: several losses per step, each with the layers that it trains and its own optimizer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aipcore.errors import ScenarioError
from aipcore.params.names import nearest, one_of

_NAME = re.compile(r"[a-z][a-z0-9_]*")

ARGUMENTS = ("model", "inputs", "targets")
RANDOM = "random"
"""The optional last argument of a loss, a `SampleRandom`."""


@attrs.frozen
class Update:
    """An optimizer update in each step: a loss, and the layers that it trains.

    Its optimizer, schedule, clipping, weight decay and EMA are the parameters `updates.NAME`.

    Attributes:
        name: its name in options and logs: lower-case letters, digits and `_`.
        trains: a regular expression for the paths of layers. It must match a whole path. All layers inside a matching
            layer are trained too.
        loss: a method of the scenario, `loss(self, model, inputs, targets)`. It returns one value for each sample, an
            array of shape [batch] or [batch, ...], or one mean of the batch. `model` is the trained `keras.Model`;
            `inputs` and `targets` have the form of the data, an array or a mapping of arrays. The method runs inside
            the compiled step. Layers that it calls are in training mode in training, and in inference mode in
            validation. A further argument `random` draws numbers for each sample: `random.normal(*shape)` and
            `random.uniform(*shape)` return float32 tensors of shape [batch, *shape].
        times: the default of the option `updates.NAME.times`, the number of updates for each batch.
    """

    name: str
    trains: str = attrs.field(kw_only=True)
    loss: Callable[..., Any] = attrs.field(kw_only=True)
    times: int = attrs.field(default=1, kw_only=True)


@attrs.frozen
class TargetNetwork:
    r"""A part of the model that slowly follows another part, such as the target network of Q-learning.

    In each step, after the updates before it: target = rate * target + (1 - rate) * source. It starts with the weights
    of the source.

    Attributes:
        name: its name in options: lower-case letters, digits and `_`.
        weights: a regular expression for the paths of the variables that follow. It must match a whole path.
        source: the path of the followed variable, with groups of the expression: `r"online/\1"` for `"target/(.*)"`.
        rate: the default of the option `updates.NAME.rate`, from 0 (a copy) to below 1.
    """

    name: str
    weights: str = attrs.field(kw_only=True)
    source: str = attrs.field(kw_only=True)
    rate: float = attrs.field(default=0.99, kw_only=True)


AnyUpdate = Update | TargetNetwork


def check_updates(cls: Any) -> None:
    """Check the updates of a scenario class, before TensorFlow is imported.

    Raises:
        ScenarioError: a record is invalid.
    """
    given = cls.updates
    what = f"{cls.__name__}.updates"
    if not isinstance(given, list | tuple) or not all(isinstance(each, AnyUpdate) for each in given):
        raise ScenarioError(f"{what} is not a tuple of updates. Write updates = (Update(...), ...).")
    for each in given:
        if not isinstance(each.name, str) or not _NAME.fullmatch(each.name):
            raise ScenarioError(
                f"{what} has the name {each.name!r}. A name must start with a lower-case letter and contain only "
                "lower-case letters, digits and _."
            )
        if [other.name for other in given].count(each.name) > 1:
            raise ScenarioError(f"{what} has the name {each.name!r} twice. Give each update a unique name.")
        if isinstance(each, Update):
            _check_update(cls, each, what)
        else:
            _check_expression(each.weights, f"{what}: the weights of {each.name}")
            if not isinstance(each.source, str) or not 0 <= each.rate < 1:
                raise ScenarioError(
                    f"{what}: {each.name} needs a source, which is text, and a rate from 0 to below 1. Fix them."
                )
    if given and not any(isinstance(each, Update) for each in given):
        raise ScenarioError(f"{what} has no update with a loss. Add an Update.")


def updates_of(cls: Any) -> Sequence[AnyUpdate]:
    """Return the updates of a scenario class after a check; see `check_updates`."""
    check_updates(cls)
    updates: Sequence[AnyUpdate] = cls.updates
    return updates


def _check_update(cls: Any, update: Update, what: str) -> None:
    _check_expression(update.trains, f"{what}: the layers of {update.name}")
    if not isinstance(update.times, int) or update.times < 1:
        raise ScenarioError(f"{what}: {update.name} has times={update.times!r}. Give a number of at least 1.")
    takes = ", ".join(ARGUMENTS)
    name = getattr(update.loss, "__name__", "")
    if not inspect.isfunction(update.loss) or not inspect.isfunction(getattr(cls, name, None)):
        methods = [key for key in dir(cls) if inspect.isfunction(getattr(cls, key)) and not key.startswith("__")]
        near: list[str] = nearest(str(update.loss), methods) if isinstance(update.loss, str) else []
        hint = f" Did you mean loss={one_of(near)}, without quotes?" if near else ""
        raise ScenarioError(
            f"{what}: the loss of {update.name} is not a method of {cls.__name__}. Define updates below its methods, "
            f"with loss=METHOD.{hint}"
        )
    signature = inspect.signature(getattr(cls, name))
    try:
        signature.bind("self", *ARGUMENTS, **dict.fromkeys([RANDOM] if takes_random(getattr(cls, name)) else []))
    except TypeError:
        raise ScenarioError(
            f"{cls.__name__}.{name}({', '.join(signature.parameters)}) does not accept the arguments of aip. Write "
            f"def {name}(self, {takes}), or def {name}(self, {takes}, {RANDOM})."
        ) from None


def _check_expression(expression: Any, what: str) -> None:
    try:
        re.compile(expression)
    except (re.error, TypeError) as error:
        raise ScenarioError(f"{what}: {expression!r} is not a regular expression ({error}). Fix it.") from error


def takes_random(method: Callable[..., Any]) -> bool:
    """Return True if a loss has the argument `random`."""
    return RANDOM in inspect.signature(method).parameters


def losses_used(updates: Sequence[AnyUpdate]) -> list[str]:
    """Return the names of the methods that updates use."""
    return [each.loss.__name__ for each in updates if isinstance(each, Update) and hasattr(each.loss, "__name__")]
