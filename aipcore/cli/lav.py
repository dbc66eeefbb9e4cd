"""`aip lav`: load and validate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from aipcore.cli.completing import ModelFolderCommand, complete_words
from aipcore.cli.model_request import TRUST, ModelCommand, ModelRequest
from aipcore.cli.request import HELP, CommandOption
from aipcore.cli.score_table import show_scores, write_scores
from aipcore.cli.style import report
from aipcore.params import Resolved, to_dict
from aipcore.prediction.formats import STORED, check_output

JSON = CommandOption(("--json",), "Also write the scores to FILE, as JSON.", "FILE")
DUMP = CommandOption(
    ("--dump",), "Write targets and outputs to FILE, which ends in .npz or .parquet, for aip evaluate.", "FILE"
)
EAGER = CommandOption(("--eager",), "Compile nothing, to debug a scenario; slow.")
LAV = ModelCommand(
    name="lav",
    usage="lav MODEL \\[OPTIONS] \\[PARAMETERS]",
    summary="Score a trained model: losses, metrics and evaluator, on its validation data or what parameters name.",
    options=(HELP, JSON, DUMP, EAGER, TRUST),
)


class _Lav(ModelFolderCommand):
    own_options = LAV.options
    fixed = LAV.fixed


@click.command(
    "lav",
    cls=_Lav,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
def command(words: tuple[str, ...]) -> None:
    """Score a trained model on its validation data or other data."""
    console = Console()
    options, requests = LAV.read(words, console)
    if not requests:
        return
    (request,) = requests
    resolved = request.resolved(partial(report, "warning"))
    json_file, dump = (Path(options[name]) if name in options else None for name in ("--json", "--dump"))
    if json_file is not None:
        check_output(json_file, "--json", (".json",))
    if dump is not None:
        check_output(dump, "--dump", STORED)
    _lav(request, resolved, console, json_file=json_file, dump=dump, eager="--eager" in options)


def _lav(
    request: ModelRequest,
    resolved: Resolved[Any],
    console: Console,
    *,
    json_file: Path | None,
    dump: Path | None,
    eager: bool,
) -> None:
    from aipcore.cli.compute import start_computing

    start_computing(resolved.value.device)
    from aipcore.prediction.lav import run_lav
    from aipcore.prediction.stored import Stored, write_stored

    about = applied_record(request, resolved)
    stored = None if dump is None else Stored(about=about)
    scenario = request.scenario.cls(resolved.value)
    scores, skipped = run_lav(request.model, scenario, eager=eager, stored=stored)
    show_scores(console, scores)
    for text in skipped:
        report("warning", text)
    if json_file is not None:
        write_scores(json_file, scores, {"model": str(request.model.path), "scenario": request.scenario.name})
    if stored is not None and dump is not None:
        write_stored(dump, stored)


def applied_record(request: ModelRequest, resolved: Resolved[Any]) -> dict[str, Any]:
    """The record of a model with the parameters that it is applied with, for a file of its answers."""
    kept = ("scenario", "versions", "plugins", "signature", "prediction_signature", "seed")
    about = {name: request.model.about[name] for name in kept if name in request.model.about}
    return {**about, "model": str(request.model.path), "params": to_dict(resolved.value, request.plugins)}
