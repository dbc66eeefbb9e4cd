"""`aip predict`: predictions of one or more models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aipcore.cli.completion import ModelFolderCommand, words_command
from aipcore.cli.lav import applied_record
from aipcore.cli.model_request import TRUST, ModelCommand, ModelRequest, start_computing
from aipcore.cli.request import HELP, command_option
from aipcore.cli.style import report
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.params import Resolved
from aipcore.params.names import count
from aipcore.prediction.locate import given_params
from aipcore.prediction.params import FIXED
from aipcore.prediction.writers import Writer, find_writer, write_predictions
from aipcore.scenario.list_file import matching_files
from aipcore.scenario.scenario import Scenario

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction

OUTPUT = command_option(
    "--output",
    help="Write the predictions to FILE instead of the terminal. The end of FILE selects the format: "
    ".csv, .jsonl, .npz, .parquet, or one that the scenario or a plugin adds; see aip plugins list --kind writer.",
    metavar="FILE",
)
TARGETS = command_option(
    "--targets",
    help="Also write targets and raw model outputs for aip evaluate. The targets of the data are also read and "
    "processed. --output FILE is required.",
)
PREDICT = ModelCommand(
    name="predict",
    usage="predict MODEL ... \\[OPTIONS] \\[PARAMETERS]",
    summary="Predict with one or more trained models, by default on the validation data. Several models vote.",
    options=(HELP, OUTPUT, TARGETS, TRUST),
    fixed=(*FIXED, "lav"),
    several=True,
)


class _Predict(ModelFolderCommand):
    fixed = PREDICT.fixed
    several = True


@words_command("predict", _Predict, PREDICT.options)
def command(words: tuple[str, ...]) -> None:
    """Predict with one or more trained models."""
    console = Console()
    options, requests = PREDICT.read(words, console)
    if not requests:
        return
    places: list[str] = []
    resolved = [request.resolved(places.append) for request in requests]
    if not getattr(resolved[0].value.data, "files", ()):
        for place in dict.fromkeys(places):
            report("warning", place)
    given = [
        given_params(each, request.scenario.cls, "predict") for request, each in zip(requests, resolved, strict=True)
    ]
    targets = "--targets" in options
    output = Path(options["--output"]) if "--output" in options else None
    for each in resolved:
        # Missing files are reported before TensorFlow is imported.
        matching_files(getattr(each.value.data, "files", ()))
    writer = None
    if output is not None:
        writer = _find_writer(output, requests[0], resolved[0], targets=targets)
    elif targets:
        raise UsageError("--targets needs --output FILE for the targets. Add it.")
    _predict(requests, resolved, given, console, output=output, writer=writer, targets=targets)


def _find_writer(output: Path, request: ModelRequest, resolved: Resolved[Any], *, targets: bool) -> Writer:
    cls = request.scenario.cls
    # A scenario without its own formats is not made before TensorFlow is configured.
    own = {} if cls.prediction_writers is Scenario.prediction_writers else cls(resolved.value).prediction_writers()
    return find_writer(output, request.plugins, own=own, targets=targets)


def _predict(
    requests: list[ModelRequest],
    resolved: list[Resolved[Any]],
    given: list[frozenset[str]],
    console: Console,
    *,
    output: Path | None,
    writer: Writer | None,
    targets: bool,
) -> None:
    from aipcore.cli.tables import show_predictions

    start_computing(resolved[0].value.device)
    from aipcore.prediction.ensemble import load_voter
    from aipcore.prediction.predictor import Predictor

    predictor = Predictor(
        [
            load_voter(request.model, request.scenario.cls(each.value), changed)
            for request, each, changed in zip(requests, resolved, given, strict=True)
        ]
    )
    params = resolved[0].value
    batch_size = params.val.batch_size or params.train.batch_size
    if batch_size > 1 and (text := predictor.padded()):
        report("warning", text)
    predictions: Iterator[Prediction] = predictor.predict_data(batch_size=batch_size, targets=targets)
    if output is None:
        show_predictions(console, predictions)
    else:
        written = write_predictions(output, predictions, applied_record(requests[0], resolved[0]), writer)
        click.echo(f"Wrote {count(written, 'prediction')} to {output}.")
    for text in predictor.skipped():
        report("warning", text)
