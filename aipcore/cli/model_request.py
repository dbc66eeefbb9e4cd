"""The arguments of `aip lav`, `aip predict` and `aip export`: trained models, options and parameters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import click
from rich.console import Console

from aipcore.cli.help import About, show_options, show_parameters
from aipcore.cli.request import command_option, sort_words
from aipcore.cli.style import report
from aipcore.distributed.params import GpuParams
from aipcore.errors import UsageError
from aipcore.files import expanded
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import Layer, Resolved, fill, sections
from aipcore.params.tree import build_tree
from aipcore.prediction.locate import ModelDir, find_models, recorded_layer, resolved_params, scenario_of
from aipcore.prediction.params import CHANGEABLE, FIXED, applied_params_class
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.record import moved_scenario
from aipcore.scenario.updates import updates_of
from aipcore.training.params import run_params_class


def start_computing(device: GpuParams | None = None) -> None:
    """Import TensorFlow and select the devices.

    Raises:
        ParamsError: a device does not exist.
    """
    from aipcore.logs import log_level
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow(verbose=log_level() <= logging.DEBUG)
    from aipcore.distributed.devices import select_devices

    if device is not None:
        select_devices(device)


PARAMETERS = "PARAMETERS are the scenario's options, such as --val.batch_size 32."
COMMON = ("val.batch_size", "lav.show_samples", "device.gpus")
"""The parameters that most users of a trained model change."""

TRUST = command_option(
    "--trust",
    help="Trust the code and the addresses that the model names. Its scenario is imported even if it is not an "
    "installed plugin, and so are its plugin files. Use this only for models from a known source.",
)


@attrs.frozen(kw_only=True)
class ModelArguments:
    """The sorted words after a command's name.

    Attributes:
        models: words before the first option.
        options: values of the command's own options by long name; "" for a flag.
        rest: words of the parameters.
    """

    models: list[str]
    options: dict[str, str]
    rest: list[str]


def split_model_arguments(
    words: Sequence[str], options: Sequence[click.Option], command: str, *, several: bool = False
) -> ModelArguments:
    """Sort the words of a command.

    Raises:
        UsageError: an option lacks its value or is repeated, or the models do not come first or are too many.
    """
    given, rest = sort_words(words, options)
    models: list[str] = []
    while rest and not rest[0].startswith("-"):
        models.append(rest.pop(0))
    if not models and "--help" not in given:
        line = " ".join([f"aip {command}", "MODEL..." if several else "MODEL", *rest])
        raise UsageError(
            f"Name a model: {line}{'' if line.endswith('...') else '.'} A model is a run folder, or its best, export "
            "or checkpoint subfolder."
        )
    if len(models) > 1 and not several:
        raise UsageError(f"aip {command} takes one model, not {len(models)}: {' '.join(models)}.")
    return ModelArguments(models=models, options=given, rest=rest)


def split_changeable(given: Layer) -> tuple[Layer, Layer]:
    """Split the words of `aip export` into options of the format and changed parameters of the scenario."""
    changed = {name: value for name, value in given.values.items() if name.split(".")[0] in CHANGEABLE}
    others = {name: value for name, value in given.values.items() if name not in changed}
    return attrs.evolve(given, values=others), attrs.evolve(given, values=changed)


@attrs.frozen(kw_only=True)
class ModelRequest:
    """A model, its scenario and the parameters that differ from the recorded ones.

    Attributes:
        model: model on disk.
        scenario: scenario that the model was trained with.
        overrides: parameters of the command line.
        fixed: parameter groups without effect in this command.
        plugins: installed plugins, and those of the scenario's files.
        trust: if True, addresses in the model's record may be contacted.
    """

    model: ModelDir
    scenario: LoadedScenario
    overrides: Layer
    fixed: tuple[str, ...]
    plugins: PluginManager
    trust: bool = False

    def resolved(self, tell: Callable[[str], object]) -> Resolved[Any]:
        """Return the complete, checked parameters; see `resolved_params`."""
        return resolved_params(self.model, self.scenario, self.plugins, self.overrides, trust=self.trust, tell=tell)


def make_model_requests(arguments: ModelArguments, command: str, fixed: tuple[str, ...] = FIXED) -> list[ModelRequest]:
    """Read the records of models without loading the models.

    Raises:
        UsageError: a path does not contain a model, a scenario cannot be used, or an option has no effect.
    """
    overrides, trust = Layer.from_arguments(arguments.rest), "--trust" in arguments.options
    requests = []
    for model in (model for text in arguments.models for model in find_models(expanded(text))):
        scenario, plugins = scenario_of(model, get_plugin_manager(), trust=trust)
        if moved := moved_scenario(model.about, scenario):
            report("warning", moved)
        _refuse_fixed(overrides, scenario, fixed, command, plugins)
        requests.append(
            ModelRequest(model=model, scenario=scenario, overrides=overrides, fixed=fixed, plugins=plugins, trust=trust)
        )
    return requests


@attrs.frozen(kw_only=True)
class ModelCommand:
    """A command that applies models to data.

    Attributes:
        name: name of the command.
        usage: usage line, after `aip`.
        summary: one sentence.
        options: options of the command itself.
        fixed: parameter groups without effect in this command.
        several: True if the command takes more than one model.
    """

    name: str
    usage: str
    summary: str
    options: Sequence[click.Option]
    fixed: tuple[str, ...] = FIXED
    several: bool = False

    def read(self, words: Sequence[str], console: Console) -> tuple[dict[str, str], list[ModelRequest]]:
        """Return the options and models of a command line. If it asks for help, show it and return no models.

        Raises:
            UsageError: see `split_model_arguments` and `make_model_requests`.
        """
        arguments = split_model_arguments(words, self.options, self.name, several=self.several)
        requests = make_model_requests(arguments, self.name, self.fixed)
        if "--help" not in arguments.options:
            return arguments.options, requests
        if requests:
            show_model_help(console, requests[0], self, arguments.models[0], arguments.options["--help"])
        else:
            show_model_usage(console, self.usage, self.summary, self.options)
        return arguments.options, []


def _refuse_fixed(
    overrides: Layer, scenario: LoadedScenario, fixed: tuple[str, ...], command: str, plugins: PluginManager
) -> None:
    shorts = build_tree(run_params_class(scenario.cls.params_class, updates_of(scenario.cls)), plugins).shorts
    own = build_tree(applied_params_class(scenario.cls.params_class), plugins).children
    for option in overrides.options:
        first = option.name.split(".")[0]
        group = first if first in own else shorts.get(first, (first,))[0]
        if group in (*fixed, "trainer"):
            why = "the model is already trained" if group in (*FIXED, "trainer") else "it belongs to aip lav"
            raise UsageError(f"{option.written} has no effect in aip {command}, since {why}. Leave it out.")


def show_model_usage(
    console: Console, usage: str, summary: str, options: Sequence[click.Option], parameters: str = PARAMETERS
) -> None:
    """Print the help of a command before a model is named. `parameters` explains them; empty without parameters."""
    console.print(f"Usage: [bold]aip {usage}[/bold]\n\n{summary}\n")
    show_options(console, options)
    console.print(
        "\nMODEL is a run folder, or its [bold]best[/bold], [bold]export[/bold] or [bold]checkpoint[/bold] subfolder."
    )
    if parameters:
        console.print(f"\n{parameters}")
        console.print(f"To see those of a model: [bold]aip {usage.split(maxsplit=1)[0]} MODEL --help[/bold]")


def show_model_help(console: Console, request: ModelRequest, command: ModelCommand, model: str, topic: str) -> None:
    """Print the help of a command for a model, with the parameter values of this command line."""
    if not topic:
        console.print(f"Usage: [bold]aip {command.usage}[/bold]\n\n{command.summary}\n")
    about = about_model(f"aip {command.name} {model}", request.scenario, command.options, request.plugins)
    layers = [recorded_layer(request.model), request.overrides]
    tree = fill(applied_params_class(request.scenario.cls.params_class), layers, request.plugins)
    for name in request.fixed:
        tree.children.pop(name, None)
    show_parameters(console, [tree], about, topic)


def about_model(start: str, scenario: LoadedScenario, options: Sequence[click.Option], plugins: PluginManager) -> About:
    """Return the description of a command that applies a model. `start` is the command up to the model."""
    standard = sections(fill(applied_params_class(ScenarioParams), [], plugins))
    return About(start=start, subject=scenario.name, options=options, common=COMMON, standard=standard)
