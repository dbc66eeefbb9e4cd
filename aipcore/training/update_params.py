"""Parameters of a scenario's updates, by their names. This module does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import ParamsError
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.records import OptimizerParams, ScheduleParams
from aipcore.params import Check, Choice, Resolved, at_least, component, field, fill, group, params, to_dict
from aipcore.params.declare import spec_of
from aipcore.params.dump import flat
from aipcore.params.files import COMMAND_LINE
from aipcore.scenario.updates import AnyUpdate, Update


@params
class UpdateParams:
    """One of several updates in each step."""

    times: int = field(1, help="Updates for each batch. Each has a new forward pass.", check=at_least(1))
    calc_ema: float = field(
        0.0,
        help="Decay rate of the EMA of the trained weights. Validation and export use the averaged weights. 0 disables "
        "it. A negative value computes the rate from the length of an epoch.",
        check=Check("below 1", lambda rate: rate < 1),
        aliases=("ema_momentum",),
    )
    optimizer: Choice[OptimizerParams] = component(
        "optimizer", default="Adam", help="Algorithm that updates the weights."
    )
    learning_rate: Choice[ScheduleParams] = component(
        "schedule", default="ExponentialDecay", help="Learning-rate schedule."
    )


@params
class TargetNetworkParams:
    """A target network, whose weights follow those of another part of the model."""

    rate: float = field(
        0.99,
        help="Decay rate of the target network. The weights of its source have the share 1 - rate in each step. 0 "
        "copies them.",
        check=Check("from 0 to below 1", lambda rate: 0 <= rate < 1),
    )


def updates_class(updates: Sequence[AnyUpdate]) -> type[Any]:
    """Return a parameter class with a group for each update."""
    groups = {each.name: group(_update_class(each), help=f"The update {each.name}.") for each in updates}
    return derived("UpdatesParams", groups)


def _update_class(update: AnyUpdate) -> type[Any]:
    """Return the parameter class of an update, with the default of its record."""
    base: type[Any] = UpdateParams if isinstance(update, Update) else TargetNetworkParams
    name, value = ("times", update.times) if isinstance(update, Update) else ("rate", float(update.rate))
    spec = spec_of(attrs.fields_dict(base)[name])
    return derived(base.__name__, {name: field(value, help=spec.help, check=spec.check)}, base)


def derived(name: str, fields: Mapping[str, Any], *bases: type[Any]) -> type[Any]:
    """Return a parameter class with further fields."""
    return attrs.make_class(name, dict(fields), bases=bases or (object,), frozen=True, kw_only=True, slots=False)


def update_params(trainer: Any) -> dict[str, UpdateParams | TargetNetworkParams]:
    """Return the parameters of each of several updates by name, from those of the trainer; empty for a single one."""
    updates = getattr(trainer, "updates", None)
    return {} if updates is None else {each.name: getattr(updates, each.name) for each in attrs.fields(type(updates))}


def optimizer_params(trainer: Any) -> dict[str, UpdateParams]:
    """Return the parameters of each of several updates with an optimizer by name; empty for a single update."""
    return {name: each for name, each in update_params(trainer).items() if isinstance(each, UpdateParams)}


SINGLE = ("optimizer", "learning_rate", "calc_ema", "input_gradient_penalty")
"""Parameters of the trainer that belong to a single update."""


def check_several_updates(root: type[Any], resolved: Resolved[Any], plugins: PluginManager, scenario: str) -> None:
    """Refuse parameters that have no effect, or are not possible, in a scenario with several updates.

    Args:
        root: the parameter class of the run.
        resolved: the parameters of the run.
        plugins: the installed plugins.
        scenario: the name of the scenario's class.

    Raises:
        ParamsError: there is one.
    """
    trainer = resolved.value.trainer
    updates = optimizer_params(trainer)
    if not updates:
        return
    defaults = flat(to_dict(fill(root, [], plugins)))
    for path, value in flat(to_dict(resolved.value)).items():
        name = path.removeprefix("trainer.").partition(".")[0]
        if not path.startswith("trainer.") or name not in SINGLE:
            continue
        origin = resolved.origins.get(path.removesuffix(".name"))
        if origin == COMMAND_LINE or value != defaults.get(path):
            option = path.removesuffix(".name")
            option = option if name in ("calc_ema", "input_gradient_penalty") else option.removeprefix("trainer.")
            instead = [f"--updates.{update}.{option.removeprefix('trainer.')}" for update in updates]
            use = "Compute it in the losses" if name == "input_gradient_penalty" else f"Give {' or '.join(instead)}"
            raise ParamsError(f"--{option} has no effect, because {scenario} defines updates. {use}.")
    repeated = [name for name, each in updates.items() if each.times > 1]
    if trainer.accumulate_steps > 1 and repeated:
        raise ParamsError(
            f"--trainer.accumulate_steps {trainer.accumulate_steps} cannot be used with --updates.{repeated[0]}.times "
            f"{updates[repeated[0]].times}: a repeated update needs the gradients at the new weights. Give a larger "
            "--train.batch_size instead."
        )
