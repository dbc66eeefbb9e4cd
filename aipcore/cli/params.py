"""`aip params`: the resolved parameters of a command line, and the origin of each value."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from aipcore.cli.completion import ParametersCommand, words_command
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import HELP, PARAMS, command_option, make_request, split_arguments
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.hooks.manager import PluginManager
from aipcore.params import to_dict, to_json, to_yaml
from aipcore.training.params import TrainerParams
from aipcore.training.update_params import UpdateParams, optimizer_params

FORMAT = command_option(
    "--format",
    help="Output format: yaml (default) or json. --params reads both.",
    metavar="FORMAT",
    type=click.Choice(("yaml", "json")),
)
PLOT = command_option("--plot", help="Also plot the learning rate over the run, as a comment.")
OPTIONS = (HELP, PARAMS, FORMAT, PLOT)


@words_command("params", ParametersCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Print the parameters of a command line and the origin of each value."""
    arguments = split_arguments(words, OPTIONS, "params")
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(Console(), command)
        return
    form = arguments.options.get("--format", "yaml")
    if form == "json" and "--plot" in arguments.options:
        raise UsageError("--plot draws a comment, which JSON does not support. Leave out --format json.")
    request = make_request(arguments, "params")
    if "--help" in arguments.options:
        show_help(Console(), request, command, arguments)
        return
    resolved = request.resolved()
    if form == "json":
        click.echo(to_json(to_dict(resolved.value)), nl=False)
    else:
        click.echo(to_yaml(resolved.tree, origins=True), nl=False)
    if "--plot" in arguments.options:
        _plot(request.plugins, resolved.value.trainer)


def _plot(plugins: PluginManager, trainer: TrainerParams) -> None:
    from aipcore.cli.plot import schedule_plot

    # The output can be read while TensorFlow is being imported.
    sys.stdout.flush()
    width = Console().width - 2
    if trainer.epochs is None:
        raise UsageError(
            "--plot needs the length of an epoch, which depends on the data, if --trainer.epochs is none. Set "
            "--trainer.epochs."
        )
    shown: Mapping[str, TrainerParams | UpdateParams] = optimizer_params(trainer) or {"": trainer}
    for update, params in shown.items():
        name, schedule = params.learning_rate.name, params.learning_rate.params
        drawn = schedule_plot(plugins, name, schedule, epochs=trainer.epochs, width=width)
        title = f"learning rate{f' of {update}' if update else ''}: {name}"
        click.echo("".join(f"# {line}".rstrip() + "\n" for line in ["", title, *drawn.splitlines()]), nl=False)
