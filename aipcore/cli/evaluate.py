"""`aip evaluate`: scores of stored outputs, without the model."""

from __future__ import annotations

from pathlib import Path

from aipcore.cli.completion import FileCommand, words_command
from aipcore.cli.help import show_options
from aipcore.cli.model_request import TRUST
from aipcore.cli.request import command_option, sort_words
from aipcore.cli.tables import show_scores, write_scores
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.files import expanded
from aipcore.hooks.manager import get_plugin_manager
from aipcore.prediction.formats import STORED, check_output, check_stored

JSON = command_option("--json", help="Also write the scores to FILE as JSON.", metavar="FILE")
OPTIONS = (command_option("--help", "-h", help="Show this message."), JSON, TRUST)


@words_command("evaluate", FileCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Score stored outputs of a model."""
    options, rest = sort_words(words, OPTIONS)
    console = Console()
    if "--help" in options:
        console.print(
            "Usage: [bold]aip evaluate PREDICTIONS \\[OPTIONS][/bold]\n\n"
            "Compute losses, metrics and evaluator results from a file written by aip lav --dump or by aip predict "
            "--targets --output.\n"
        )
        show_options(console, OPTIONS)
        return
    if len(rest) != 1 or rest[0].startswith("-"):
        wrong = f"takes one file, not {' '.join(rest)}" if rest else "needs a file"
        raise UsageError(
            f"aip evaluate {wrong}. Use a file written by aip lav --dump or aip predict --targets --output."
        )
    path = expanded(rest[0])
    check_stored(path, STORED)
    json_file = Path(options["--json"]) if "--json" in options else None
    if json_file is not None:
        check_output(json_file, "--json", (".json",))
    _evaluate(path, json_file, console, trust="--trust" in options)


def _evaluate(path: Path, json_file: Path | None, console: Console, *, trust: bool) -> None:
    from aipcore.cli.model_request import start_computing

    start_computing()
    from aipcore.prediction.evaluate_saved import score_stored
    from aipcore.prediction.saved_predictions import read_stored, scenario_of_stored

    stored = read_stored(path)
    scores = score_stored(stored, scenario_of_stored(stored, path, get_plugin_manager(), trust=trust))
    show_scores(console, scores)
    if json_file is not None:
        write_scores(json_file, scores, {"predictions": str(path), "scenario": stored.about["scenario"]["name"]})
