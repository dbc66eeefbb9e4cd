"""`aip ocr-report`: the errors of models on lines, as tables and as an HTML page."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aipcore.errors import AipError, UsageError

if TYPE_CHECKING:
    from aip_plugin_ocr.reports.page import Line
    from aip_plugin_ocr.reports.statistics import ReadingStatistics
    from aipcore.prediction import Prediction, Predictor
    from aipcore.scenario import Scenario

SAVED = (".npz", ".parquet")


@click.command("ocr-report")
@click.argument("sources", nargs=-1, required=True, metavar="MODEL ... | PREDICTIONS")
@click.option(
    "--lists",
    multiple=True,
    metavar="FILE",
    help="List of lines to read, or a folder. May be repeated. By default, the validation lines of the model.",
)
@click.option(
    "--output", metavar="FILE.html", type=click.Path(path_type=Path), help="Write a page with the worst lines."
)
@click.option("--worst", default=50, show_default=True, type=click.IntRange(min=1), help="Number of lines on the page.")
@click.option("--trust", is_flag=True, help="Import a scenario that is not an installed plugin.")
def command(sources: tuple[str, ...], lists: tuple[str, ...], output: Path | None, worst: int, trust: bool) -> None:
    """Report the errors of text recognition.

    MODEL is a run folder, or a model in it. Several models vote, and so do those of a cross-validation. PREDICTIONS is
    a file of aip lav --dump or aip predict --targets --output.
    """
    if output is not None and (output.suffix != ".html" or not output.parent.is_dir()):
        raise UsageError(f"--output {output} is not allowed. It must end in .html, in an existing folder.")
    saved = [source for source in sources if source.endswith(SAVED)]
    if saved and (len(sources) > 1 or lists):
        raise UsageError(f"{saved[0]} has the predictions of some lines. Pass it alone, without models and --lists.")
    title = ", ".join(sources)
    if saved:
        from aipcore.prediction import read_predictions

        scenario, predictions = read_predictions(Path(saved[0]), trust=trust)
        _report(scenario, predictions, title, output, worst)
    else:
        predictor = _load(sources, lists, trust)
        params = predictor.scenario.params
        size = params.val.batch_size or params.train.batch_size
        _report(predictor.scenario, predictor.predict_data(batch_size=size, targets=True), title, output, worst)
        for text in predictor.skipped():
            click.echo(f"warning: {text}", err=True)


def _load(models: Sequence[str], lists: Sequence[str], trust: bool) -> Predictor:
    from aipcore.prediction import Predictor

    # The files to predict have no texts, so lines to report on are validation lines.
    params = {"val.lists": list(lists), "data.files": []} if lists else None
    predictor = Predictor.load(models, trust=trust, params=params)
    if predictor.scenario.predict_data() is None:
        raise UsageError(
            f"{', '.join(models)} has no validation lines. Pass --lists. To report on a cross-validation out of fold, "
            "run aip lav with --dump FILE.npz, and pass that file."
        )
    return predictor


def _report(scenario: Scenario, predictions: Iterable[Prediction], title: str, output: Path | None, worst: int) -> None:
    from aip_plugin_ocr.reports.page import make_page
    from aip_plugin_ocr.reports.statistics import ReadingStatistics, alphabet_text, count_characters

    statistics = ReadingStatistics()
    data = scenario.predict_data()
    lines = [_line(scenario, data, statistics, prediction) for prediction in predictions]
    characters, notes = None, []
    try:
        characters = count_characters(scenario.texts(scenario.train_data()), [line.truth for line in lines])
    except AipError as error:
        notes.append(f"The training texts cannot be read: {error}")
    total = statistics.total
    click.echo(f"{total.lines:,} lines, {total.characters:,} characters")
    click.echo(f"character error rate {total.of_characters:.2%}, line error rate {total.of_lines:.2%}")
    for text in (statistics.text(), "" if characters is None else alphabet_text(characters), *notes):
        if text:
            click.echo(f"\n{text}")
    if output is not None:
        shown = heapq.nlargest(worst, (line for line in lines if line.errors), key=lambda line: line.errors)
        try:
            output.write_text(make_page(title, shown, statistics, characters, notes), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--output {output} cannot be written ({error.strerror}). Choose another file.") from error
        click.echo(f"\nWrote a page with {len(shown)} lines to {output}.")


def _line(scenario: Scenario, data: Any, statistics: ReadingStatistics, prediction: Prediction) -> Line:
    from aip_plugin_ocr.reports.page import Line

    texts = scenario.describe(prediction.targets or {}, prediction.outputs) if "text" in prediction.outputs else None
    if not prediction.targets or texts is None:
        raise UsageError("The predictions have no texts to compare. Use models and files of the scenario ocr.")
    truth, read = texts
    index, meta = prediction.index, prediction.meta if isinstance(prediction.meta, dict) else {}
    # The targets of the first model lack the characters that only other models of a vote know.
    truth = str(meta.get("truth", truth))
    confidence = prediction.outputs.get("confidence")
    return Line(
        truth=truth,
        read=read,
        errors=statistics.add(truth, read),
        confidence=None if confidence is None else float(confidence),
        name=" ".join(str(meta[key]) for key in ("path", "line") if key in meta) or f"line {index + 1}",
        image=lambda: find_image(scenario, data, index, meta),
    )


def find_image(scenario: Any, data: Any, index: int, meta: dict[str, Any]) -> Any:
    """Return the image of a line, uint8 [height, width], or None.

    Args:
        scenario: the scenario that reads it.
        data: the data that was predicted, if it is still available.
        index: the index of the line.
        meta: the meta of the line. It contains that of its sample.
    """
    try:
        found = [data[index]] if data is not None and index < len(data) else []
        if "path" in meta and not any(_is_of(sample, meta) for sample in found):
            found = scenario.source([Path(meta["path"])], targets=False)
        return next((sample.inputs for sample in found if _is_of(sample, meta)), None)
    except AipError:
        return None


def _is_of(sample: Any, meta: dict[str, Any]) -> bool:
    return isinstance(sample.meta, dict) and sample.meta.items() <= meta.items()
