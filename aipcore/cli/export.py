"""`aip export`: conversion of a trained model to another format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from aipcore.cli.completion import ExportFolderCommand, words_command
from aipcore.cli.help import show_details, show_parameters
from aipcore.cli.model_request import (
    TRUST,
    ModelArguments,
    about_model,
    show_model_usage,
    split_changeable,
    split_model_arguments,
)
from aipcore.cli.request import HELP, command_option
from aipcore.cli.style import echo
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.files import expanded
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.hooks.records import ExporterParams
from aipcore.params import Choice, Layer, Resolved, component, fill, one_of, params, resolve, sections, to_dict
from aipcore.params.resources import planned_copies
from aipcore.prediction.locate import ModelDir, find_model, recorded_layer, resolved_params, scenario_of
from aipcore.prediction.params import CHANGEABLE, applied_params_class
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.record import DEFAULT_GRAPH
from aipcore.training.export.requirements import require_packages

OUTPUT = command_option(
    "--output",
    help="Folder to create. By default MODEL-FORMAT next to the model.",
    metavar="DIR",
)
GRAPH = command_option(
    "--graph",
    help="Export only this graph of the scenario. By default, the serving model is exported.",
    metavar="NAME",
)
OPTIONS = (HELP, OUTPUT, GRAPH, TRUST)
USAGE = "export MODEL --format NAME \\[OPTIONS] \\[PARAMETERS]"
PARAMETERS = "PARAMETERS are the options of the format, and those of the scenario's groups model and data."
SUMMARY = "Write a trained model in another format. Its outputs are verified before the folder is moved into place."


@params
class ExportCommandParams:
    """Parameters of the export itself."""

    format: Choice[ExporterParams] | None = component(
        "exporter", default=None, help="Export format, the name of an exporter plugin."
    )


class _Export(ExportFolderCommand):
    root = ExportCommandParams


@words_command("export", _Export, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Write a trained model in another format."""
    arguments = split_model_arguments(words, OPTIONS, "export")
    console = Console()
    plugins = get_plugin_manager()
    layer, overrides = split_changeable(Layer.from_arguments(arguments.rest))
    trust = "--trust" in arguments.options
    if "--help" in arguments.options:
        _show_help(arguments, layer, overrides, plugins, console)
        return
    chosen = resolve(ExportCommandParams, [layer], plugins).value.format
    if chosen is None:
        raise UsageError(f"Name a format: --format {one_of(plugins.names('exporter'))}.")
    require_packages([chosen], plugins, "--format")
    model = find_model(expanded(arguments.models[0]))
    scenario = scenario_of(model, plugins, trust=trust)
    graph = arguments.options.get("--graph", DEFAULT_GRAPH)
    if not graph.isidentifier():
        raise UsageError(f"--graph {graph} is not the name of a graph. Give a key of the scenario's export_graphs().")
    given = arguments.options.get("--output")
    stem = model.path.name if graph == DEFAULT_GRAPH else f"{model.path.name}-{graph}"
    output = model.path.with_name(f"{stem}-{chosen.name.lower()}") if given is None else expanded(given)
    _check_new(output)
    resolved = resolved_params(model, scenario, plugins, trust=trust)
    changed = resolved_params(model, scenario, plugins, overrides, trust=trust) if overrides.options else None
    if changed is not None:
        _refuse_resources(resolved.value, changed.value)
    _export(
        model,
        scenario,
        chosen,
        output,
        plugins,
        graph=graph,
        resolved=(resolved, changed),
        options=tuple(option.written for option in overrides.options),
    )


def _show_help(
    arguments: ModelArguments, layer: Layer, overrides: Layer, plugins: PluginManager, console: Console
) -> None:
    if not arguments.models:
        show_model_usage(console, USAGE, SUMMARY, OPTIONS, PARAMETERS)
        console.print()
        show_details(console, sections(fill(ExportCommandParams, [layer], plugins)))
        return
    model = find_model(expanded(arguments.models[0]))
    scenario = scenario_of(model, plugins, trust="--trust" in arguments.options)
    topic = arguments.options["--help"]
    if not topic:
        console.print(f"Usage: [bold]aip {USAGE}[/bold]\n\n{SUMMARY}\n")
        console.print(
            f"Parameters of {scenario.name} may be changed, as long as the weights keep their names and shapes.\n"
        )
    form = fill(ExportCommandParams, [layer], plugins)
    tree = fill(applied_params_class(scenario.cls.params_class), [recorded_layer(model), overrides], plugins)
    for name in [name for name in tree.children if name not in CHANGEABLE]:
        del tree.children[name]
    about = about_model(f"aip export {arguments.models[0]}", scenario, OPTIONS, plugins)
    about = attrs.evolve(about, common=("format",), standard=[*sections(form), *about.standard])
    show_parameters(console, [form, tree], about, topic)


def _check_new(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"--output {output} already exists. Give a new or an empty folder. Existing files are not overwritten."
        )


def _refuse_resources(recorded: Any, changed: Any) -> None:
    """Refuse a new file for a resource parameter: its copy in the model's folder would still be the old one."""
    before, after = (planned_copies(each) for each in (recorded, changed))
    if before == after:
        return
    names = sorted(before[0].keys() | after[0].keys())
    raise UsageError(
        f"aip export cannot change the files that are part of a model ({', '.join(names)}). Leave their options out."
    )


def _export(
    model: ModelDir,
    scenario: LoadedScenario,
    chosen: Choice[ExporterParams],
    output: Path,
    plugins: PluginManager,
    *,
    graph: str,
    resolved: tuple[Resolved[Any], Resolved[Any] | None],
    options: tuple[str, ...],
) -> None:
    recorded, other = resolved
    from aipcore.cli.model_request import start_computing

    start_computing(recorded.value.device)
    from aipcore.prediction.export import Changed, export_model
    from aipcore.training.export.formats import make_format

    changed = None
    if other is not None:
        params = {group: values for group, values in to_dict(other.value).items() if group in CHANGEABLE}
        changed = Changed(scenario=scenario.cls(other.value), params=params, options=options)
    exported = export_model(
        model,
        scenario.cls(recorded.value),
        make_format(chosen, plugins),
        chosen.name,
        output,
        graph=graph,
        changed=changed,
    )
    what = str(model.path) if graph == DEFAULT_GRAPH else f"the graph {graph} of {model.path}"
    far = f"differ from the original's by at most {exported.deviation:.2g}"
    match = far if exported.deviation else "match the original's"
    echo(f"Exported {what} as {chosen.name} to {output}. The exported model's outputs {match} on {exported.inputs}.")
