"""`aip export`: writes a trained model in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from aipcore.cli.completing import ExportFolderCommand, complete_words
from aipcore.cli.model_request import TRUST, show_model_usage, split_model_arguments
from aipcore.cli.request import HELP, CommandOption
from aipcore.cli.scenario_help import show_options
from aipcore.errors import UsageError
from aipcore.hooks.kinds import ExporterParams
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import Layer, component, one_of, params, render_help, resolve
from aipcore.prediction.model_dir import ModelDir, find_model, resolved_params, scenario_of
from aipcore.scenario.loader import LoadedScenario
from aipcore.training.requirements import require_packages

OUTPUT = CommandOption(("--output",), "The new folder to write to; by default MODEL-FORMAT beside the model.", "DIR")
OPTIONS = (HELP, OUTPUT, TRUST)
USAGE = "export MODEL --format NAME \\[OPTIONS]"
SUMMARY = "Write a trained model in another format; what it answers is compared before the folder is put in place."


@params
class ExportCommandParams:
    """What to write."""

    format: ExporterParams | None = component("exporter", default=None, help="The format, by exporter plugin.")


class _Export(ExportFolderCommand):
    own_options = OPTIONS
    root = ExportCommandParams


@click.command(
    "export",
    cls=_Export,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
def command(words: tuple[str, ...]) -> None:
    """Write a trained model in another format."""
    arguments = split_model_arguments(words, OPTIONS, "export")
    console = Console()
    plugins = get_plugin_manager()
    layer = Layer.from_arguments(arguments.rest)
    if "--help" in arguments.options:
        if arguments.models:
            console.print(f"Usage: [bold]aip {USAGE}[/bold]\n\n{SUMMARY}\n")
            show_options(console, OPTIONS)
        else:
            show_model_usage(console, USAGE, SUMMARY, OPTIONS, parameters=False)
        render_help(ExportCommandParams, [layer], plugins, console)
        return
    chosen: Any = resolve(ExportCommandParams, [layer], plugins).value.format
    if chosen is None:
        raise UsageError(f"Name a format: --format {one_of(plugins.names('exporter'))}.")
    require_packages([chosen], plugins, "--format")
    model = find_model(Path(arguments.models[0]).expanduser())
    scenario = scenario_of(model, plugins, trust="--trust" in arguments.options)
    name = plugins.name_of("exporter", type(chosen))
    given = arguments.options.get("--output")
    output = model.path.with_name(f"{model.path.name}-{name.lower()}") if given is None else Path(given).expanduser()
    _check_new(output)
    _export(model, scenario, chosen, name, output, plugins)


def _check_new(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} exists already: give a new or an empty folder, nothing is overwritten.")


def _export(
    model: ModelDir, scenario: LoadedScenario, chosen: Any, name: str, output: Path, plugins: PluginManager
) -> None:
    resolved = resolved_params(model, scenario, plugins)
    from aipcore.cli.compute import start_computing

    start_computing(resolved.value.device)
    from aipcore.prediction.export import export_model
    from aipcore.training.formats import make_format

    exported = export_model(model, scenario.cls(resolved.value), make_format(chosen, plugins), name, output)
    click.echo(
        f"{model.path} written as {name} to {output}; outputs differ by at most {exported.deviation:.2g} "
        f"for {exported.inputs}."
    )
