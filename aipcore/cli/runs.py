"""`aip runs`: commands to list, show, compare and delete runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from aipcore.cli.run_table import (
    FIELDS,
    age,
    as_json,
    best_text,
    duration,
    epochs_text,
    filtered,
    ordered,
    size_text,
    table_lines,
    terminal_width,
    value_getter,
    value_text,
)
from aipcore.cli.style import Group, color_wanted, echo, report
from aipcore.errors import AipError, UsageError
from aipcore.files import as_mapping
from aipcore.params.names import count, one_of, printable
from aipcore.training.run_folder import resume_command
from aipcore.training.runs import Run, differing, find_runs, history, read_run
from aipcore.training.status import as_finite

RUNS = "runs"
"""The folder with the runs of `aip train`."""

MOST_COMPARED = 8
"""Maximum number of compared runs. More curves cannot be told apart."""

FOLDER = click.Path(path_type=Path, file_okay=False)
RUN = click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=FOLDER)
JSON = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")


class RunsGroup(Group):
    """The subcommands of `aip runs`. Without one, the words are those of `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `list` before words that do not begin with a subcommand."""
        known = (*self.commands, *ctx.help_option_names)
        # Without words, completion offers the subcommands.
        if args[0] not in known if args else not ctx.resilient_parsing:
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the subcommands. Shells complete folders if none fits."""
        return [CompletionItem("", type="dir"), *super().shell_complete(ctx, incomplete)]


@click.group("runs", cls=RunsGroup, subcommand_metavar="[FOLDER] | COMMAND [ARGS]...")
def command() -> None:
    """List, show, compare and delete runs.

    \b
      aip runs                       the runs in the folder runs, newest first
      aip runs FOLDER --sort best    those in another folder, the best first
      aip runs list --help           all options
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped


@command.command("list")
@click.argument("folder", required=False, type=FOLDER)
@click.option("--all", "-a", "every", is_flag=True, help="Also list the runs of sweeps and cross-validations.")
@click.option(
    "--filter",
    "-f",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help=f"List matching runs only. CONDITION is NAME=VALUE, with =, !=, <, <=, > or >=. NAME is {one_of(FIELDS)}, or "
    "a parameter such as lr. VALUE may contain * and ?; age is in seconds, size in bytes. May be repeated.",
)
@click.option("--sort", "-s", "by", default="age", metavar="NAME", help="Sort by this value. By default by age.")
@click.option("--reverse", "-r", is_flag=True, help="Reverse the order.")
@click.option("--quiet", "-q", is_flag=True, help="Print the folders of the runs only.")
@JSON
def list_runs(
    folder: Path | None,
    every: bool,
    conditions: Sequence[str],
    by: str,
    reverse: bool,
    quiet: bool,
    as_json_: bool,
) -> None:
    """List the runs below a folder, newest first.

    FOLDER is a folder with runs, by default the folder runs. A sweep or a cross-validation has one row. Its folder as
    FOLDER, or --all, lists its runs. The last columns are parameters that differ between the listed runs.
    """
    found = find_runs(folder or Path(RUNS), every=every)
    found = ordered(filtered(found, conditions), by, reverse=reverse)
    if as_json_:
        click.echo(json.dumps([as_json(run) for run in found], indent=2))
    elif quiet:
        for run in found:
            echo(printable(run.path))
    elif not found:
        report("aip", f"{folder or RUNS} contains no {'matching ' if conditions else ''}runs.")
    else:
        width = terminal_width() if sys.stdout.isatty() else None
        click.echo("".join(f"{line}\n" for line in table_lines(found, width)), nl=False, color=color_wanted())


@command.command("show")
@click.argument("path", metavar="RUN", type=FOLDER)
@JSON
def show(path: Path, as_json_: bool) -> None:
    """Show a run: state, result, curve, and changed parameters."""
    run = read_run(path)
    if as_json_:
        click.echo(json.dumps(as_json(run), indent=2))
        return
    _show_lines(_summary(run))
    origins = run.about.get("origins")
    changed = [
        (name, f"{value_text(value)}  ({printable(origin)})")
        for name, value in run.params.items()
        if isinstance(origins, dict)
        and (origin := origins.get(name, origins.get(name.removesuffix(".name")))) not in (None, "default")
    ]
    if changed:
        click.echo("\nParameters that are not defaults")
        _show_lines([(f"  {printable(name)}", text) for name, text in changed])
    if run.runs:
        if means := _means(run.about.get("result")):
            click.echo("\nMean and standard deviation of the folds")
            _show_lines([(f"  {name}", text) for name, text in means])
        click.echo()
        click.echo("".join(f"{line}\n" for line in table_lines(run.runs, terminal_width())), nl=False)
    elif run.monitor:
        _show_curves([run], [run.monitor])


def _summary(run: Run) -> list[tuple[str, str]]:
    ended = f" ({run.reason})" if run.reason else ""
    epoch = f" in epoch {run.best_epoch}" if run.best_epoch else ""
    if run.best_step and run.params.get("trainer.val_every_steps"):
        epoch += f", after {count(run.best_step, 'update')}"
    started = datetime.fromtimestamp(run.started, UTC)
    resumed = run.about.get("resumed")
    versions = as_mapping(run.about.get("versions"))
    made = [f"{name} {printable(versions[name])}" for name in ("aipcore", "tensorflow", "keras") if name in versions]
    lines = [
        ("run", printable(run.path)),
        ("state", f"{run.state}{printable(ended)}"),
        ("scenario", printable(run.scenario)),
        ("epochs", epochs_text(run)),
        ("best", f"{best_text(run)}{epoch}" if run.best is not None else ""),
        ("started", f"{started:%Y-%m-%d %H:%M} UTC ({duration(age(run))} ago)"),
        ("resumed", count(len(resumed), "time") if isinstance(resumed, list) and resumed else ""),
        ("size", size_text(run.size)),
        ("versions", ", ".join(made)),
        ("next", resume_command(Path(printable(run.path))) if run.state == "interrupted" else ""),
    ]
    return [(name, text) for name, text in lines if text]


def _means(result: Any) -> list[tuple[str, str]]:
    """Return the recorded mean and deviation of each value over the folds."""
    mean, deviation = ((result.get(name) if isinstance(result, dict) else None) for name in ("mean", "deviation"))
    if not (isinstance(mean, dict) and isinstance(deviation, dict)):
        return []
    found = [(name, as_finite(value), as_finite(deviation.get(name))) for name, value in mean.items()]
    return [
        (printable(name), f"{value:.4g} ± {spread:.4g}")
        for name, value, spread in found
        if value is not None and spread is not None and name not in ("learning_rate", "ema_rate")
    ]


def _show_lines(lines: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        echo(f"{name.ljust(width)}  {text}")


@command.command("compare")
@RUN
@click.option(
    "--metric",
    "-m",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Value to plot, such as val_loss. By default, the monitored value. May be repeated.",
)
def compare(paths: Sequence[Path], metrics: Sequence[str]) -> None:
    """Compare runs: results, differing parameters, curves."""
    runs = [read_run(path) for path in paths]
    if not 2 <= len(runs) <= MOST_COMPARED:
        raise UsageError(f"aip runs compare takes 2 to {MOST_COMPARED} runs, not {len(runs)}.")
    names = differing(runs)
    rows: list[tuple[str, Callable[[Run], str]]] = [
        ("state", lambda run: run.state),
        ("epochs", epochs_text),
        ("best", best_text),
        ("size", lambda run: size_text(run.size)),
    ]
    cells = [["", *(f"{letter} {printable(run.path)}" for letter, run in _lettered(runs))]]
    cells += [[name, *(get(run) for run in runs)] for name, get in rows]
    for name in names:
        get = value_getter(name, runs)
        cells.append([printable(name), *(value_text(get(run)) if name in run.params else "-" for run in runs)])
    for line in _columns(cells):
        echo(line)
    _show_curves(runs, metrics or list(dict.fromkeys(run.monitor for run in runs if run.monitor))[:1])


def _lettered(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    return [(chr(ord("A") + number), run) for number, run in enumerate(runs)]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _show_curves(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    from aipcore.cli.plot import plot_curves

    histories = [history(run) for run in runs]
    for metric in metrics:
        curves = {
            letter: [(epoch, logs[metric]) for epoch, logs in enumerate(rows, 1) if metric in logs]
            for (letter, _), rows in zip(_lettered(runs), histories, strict=True)
        }
        if not any(curves.values()):
            known = sorted({name for rows in histories for last in rows[-1:] for name in last})
            if known:
                report("warning", f"No run has values of {metric}. Use {one_of(known)}.")
            continue
        echo("")
        echo(plot_curves(printable(metric), curves, width=min(terminal_width(), 100)))


@command.command("rm")
@RUN
@click.option("--keep-best", is_flag=True, help="Keep the best model and the records of each run.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before deleting.")
def remove(paths: Sequence[Path], keep_best: bool, yes: bool) -> None:
    """Delete runs after confirmation.

    Files that no run has written are kept. A running run is never deleted. With --keep-best, aip lav, predict and
    export still work, but the run cannot be resumed.
    """
    from aipcore.training.removal import check_removable, remove_run

    runs = list({path.resolve(): read_run(path) for path in paths}.values())
    for run in runs:
        check_removable(run, keep_best=keep_best)
    for run in runs:
        echo(f"{printable(run.path)}  {run.state}  {epochs_text(run)}  {size_text(run.size)}".rstrip())
    what = "everything but the best model of " if keep_best else ""
    total = size_text(sum(run.size for run in runs))
    if not yes and not click.confirm(f"Delete {what}{count(len(runs), 'run')} ({total})?"):
        echo("Nothing was deleted.")
        return
    for run in runs:
        try:
            left = remove_run(run, keep_best=keep_best)
        except OSError as error:
            raise AipError(f"{error.filename or run.path} cannot be deleted ({error.strerror}).") from error
        if left:
            names = ", ".join(printable(path.name) for path in left[:5])
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            echo(f"{printable(run.path)} still contains {names}{more}, which aip did not write.")
