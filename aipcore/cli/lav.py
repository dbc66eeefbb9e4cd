"""`aip lav`: load and validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipcore.cli.completion import ModelFolderCommand, words_command
from aipcore.cli.model_request import TRUST, ModelCommand, ModelRequest
from aipcore.cli.request import HELP, command_option
from aipcore.cli.style import echo, report
from aipcore.cli.tables import show_scores, write_scores
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.params import Resolved, to_dict
from aipcore.prediction.formats import STORED, check_output
from aipcore.prediction.locate import given_params
from aipcore.training.folds.summary import mean_and_deviation, summary_lines

JSON = command_option("--json", help="Also write the scores to FILE as JSON.", metavar="FILE")
DUMP = command_option(
    "--dump",
    help="Also write targets and outputs to FILE for aip evaluate. FILE ends in .npz or .parquet.",
    metavar="FILE",
)
EAGER = command_option("--eager", help="Run without compilation, to debug a scenario. This is slow.")
LAV = ModelCommand(
    name="lav",
    usage="lav MODEL ... \\[OPTIONS] \\[PARAMETERS]",
    summary="Evaluate one or more trained models. Several models vote. Computes losses, metrics and evaluator results "
    "on the validation data, or on the data that the parameters select.",
    options=(HELP, JSON, DUMP, EAGER, TRUST),
    several=True,
)


class _Lav(ModelFolderCommand):
    fixed = LAV.fixed
    several = True


@words_command("lav", _Lav, LAV.options)
def command(words: tuple[str, ...]) -> None:
    """Evaluate one or more trained models on validation or other data."""
    console = Console()
    options, requests = LAV.read(words, console)
    if not requests:
        return
    _refuse_other_scenarios(requests)
    places: dict[str, None] = {}
    resolved = [request.resolved(places.setdefault) for request in requests]
    for request, each in zip(requests, resolved, strict=True):
        given_params(each, request.scenario.cls, "lav")
    for place in places:
        report("warning", place)
    json_file, dump = (Path(options[name]) if name in options else None for name in ("--json", "--dump"))
    if json_file is not None:
        check_output(json_file, "--json", (".json",))
    if dump is not None:
        check_output(dump, "--dump", STORED)
    if len(requests) > 1 and "--eager" in options:
        raise UsageError(
            "--eager has no effect on models that vote, whose losses and metrics are not compiled. Leave it out."
        )
    _lav(requests, resolved, console, json_file=json_file, dump=dump, eager="--eager" in options)


def _refuse_other_scenarios(requests: list[ModelRequest]) -> None:
    first = requests[0]
    for other in requests[1:]:
        if other.scenario.name != first.scenario.name:
            raise UsageError(
                f"{other.model.path} has the scenario {other.scenario.name}, but {first.model.path} has "
                f"{first.scenario.name}. Models that vote must have the same scenario."
            )


def _lav(
    requests: list[ModelRequest],
    resolved: list[Resolved[Any]],
    console: Console,
    *,
    json_file: Path | None,
    dump: Path | None,
    eager: bool,
) -> None:
    from aipcore.cli.model_request import start_computing

    start_computing(resolved[0].value.device)
    from aipcore.prediction.ensemble import load_voter
    from aipcore.prediction.lav import Jury, run_lav
    from aipcore.prediction.out_of_fold import are_folds, score_out_of_fold
    from aipcore.prediction.saved_predictions import Stored, write_stored

    request, *others = requests
    models = [str(each.model.path) for each in requests]
    stored = None
    if dump is not None:
        about = applied_record(request, resolved[0])
        stored = Stored(about={**about, "models": models} if others else about)
    scenarios = [each.scenario.cls(params.value) for each, params in zip(requests, resolved, strict=True)]
    if others:
        voters = [load_voter(each.model, scenario) for each, scenario in zip(requests, scenarios, strict=True)]
        scores, skipped = score_out_of_fold(voters, stored) if are_folds(voters) else Jury(voters).score(stored)
    else:
        scores, skipped = run_lav(request.model, scenarios[0], eager=eager, stored=stored)
    show_scores(console, scores)
    if others and scores[0].joint != "vote":
        for line in summary_lines(*mean_and_deviation(list(scores[0].models.values())), len(requests)):
            echo(line)
    for text in skipped:
        report("warning", text)
    if json_file is not None:
        named = {"models": models} if others else {"model": models[0]}
        write_scores(json_file, scores, {**named, "scenario": request.scenario.name})
    if stored is not None and dump is not None:
        write_stored(dump, stored)


def applied_record(request: ModelRequest, resolved: Resolved[Any]) -> dict[str, Any]:
    """Return the record of a model with the parameters that it is applied with, for a file of its outputs."""
    kept = ("scenario", "versions", "plugins", "plugin_files", "signature", "prediction_signature", "seed")
    about = {name: request.model.about[name] for name in kept if name in request.model.about}
    return {**about, "model": str(request.model.path), "params": to_dict(resolved.value)}
