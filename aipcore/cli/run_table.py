"""The table of `aip runs`: rows, columns, filters and order."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import attrs
import click

from aipcore.errors import UsageError
from aipcore.params.names import nearest, normalize, one_of, printable
from aipcore.params.tree import COMPONENT_KEY
from aipcore.training.runs import Run, differing, short_names

WIDEST = 24
"""Maximum width of a parameter's value, in characters."""

MOST = 8
"""Maximum number of columns of parameters."""

STYLES = {"running": "cyan", "finished": "green", "interrupted": "yellow", "failed": "red", "damaged": "red"}

CONDITION = re.compile(r"([\w.-]+)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


def age(run: Run) -> float:
    """Return the seconds since the start of a run."""
    return max(0.0, time.time() - run.started)


FIELDS: Mapping[str, Callable[[Run], Any]] = {
    "name": lambda run: str(run.path),
    "state": lambda run: run.state,
    "scenario": lambda run: run.scenario,
    "epochs": lambda run: run.epochs,
    "best": lambda run: run.best,
    "monitor": lambda run: run.monitor,
    "age": age,
    "size": lambda run: run.size,
}
"""Values of a run that are not parameters, by name."""


def value_getter(name: str, runs: Sequence[Run]) -> Callable[[Run], Any]:
    """Return a function from a run to the value of a field or parameter, None if the run has no such value.

    Args:
        name: a name in `FIELDS`, or the dotted path of a parameter or its end.
        runs: the runs, which determine the known parameters.

    Raises:
        UsageError: no run has such a value.
    """
    if name.casefold() in FIELDS:
        return FIELDS[name.casefold()]
    known = dict.fromkeys(path for run in runs for path in run.params)
    wanted = normalize(name)
    plain = {path: normalize(path.removesuffix(f".{COMPONENT_KEY}")) for path in known}
    found = [path for path in known if wanted in (plain[path], normalize(path))]
    found = found or [path for path in known if plain[path].endswith(f".{wanted}")]
    if found or not runs:
        return lambda run: next((run.params[path] for path in found if path in run.params), None)
    near = nearest(name, [*FIELDS, *known])
    hint = f"Did you mean {one_of(near)}?" if near else f"Use {one_of(FIELDS)}, or a parameter."
    raise UsageError(f"No run has a value {name!r}. {hint}")


def filtered(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """Return the runs that satisfy all conditions, such as `state=failed`, `lr<0.01` or `optimizer!=Adam`.

    Raises:
        UsageError: a condition is not valid.
    """
    left = list(runs)
    for text in conditions:
        match = CONDITION.fullmatch(text)
        if match is None:
            raise UsageError(f"--filter {text} is not a condition. Write NAME=VALUE, with =, !=, <, <=, > or >=.")
        get = value_getter(match[1], runs)
        left = [run for run in left if _satisfies(get(run), match[2], match[3].strip())]
    return left


def _satisfies(value: Any, sign: str, wanted: str) -> bool:
    try:
        number, other = float(value), float(wanted)
    except (TypeError, ValueError, OverflowError):
        equal = fnmatchcase(_text(value).casefold(), wanted.casefold())
        return equal if sign == "=" else not equal if sign == "!=" else False
    return {
        "=": number == other,
        "!=": number != other,
        "<": number < other,
        "<=": number <= other,
        ">": number > other,
        ">=": number >= other,
    }[sign]


def ordered(runs: Sequence[Run], name: str, *, reverse: bool) -> list[Run]:
    """Return runs in the order of a field or parameter. Runs without this value are last.

    Numbers precede texts. `best` sorts the best run first.

    Raises:
        UsageError: no run has such a value.
    """
    get = value_getter(name, runs)

    def key(run: Run) -> tuple[Any, ...]:
        value = get(run)
        if isinstance(value, bool | int | float):
            sign = -1 if name.casefold() == "best" and run.mode == "max" else 1
            return (0, sign * value, "")
        return (1, 0, _text(value))

    valued = [run for run in runs if get(run) not in (None, "")]
    return [*sorted(valued, key=key, reverse=reverse), *(run for run in runs if get(run) in (None, ""))]


@attrs.frozen
class Column:
    """A column of the table: its heading, its cells, and the alignment of numbers."""

    heading: str
    cells: Sequence[str]
    right: bool = False

    @property
    def width(self) -> int:
        """The width of the column, in characters."""
        return max(map(len, [self.heading, *self.cells]))


def table_lines(runs: Sequence[Run], width: int | None) -> Iterator[str]:
    """Yield the lines of the table.

    Args:
        runs: the rows.
        width: the width of the terminal, which limits the columns of parameters; None for no limit.
    """
    columns = [
        Column("NAME", [printable(run.path) for run in runs]),
        Column("STATE", [run.state for run in runs]),
        Column("EPOCHS", [epochs_text(run) for run in runs], right=True),
        _best_column(runs),
        Column("AGE", [duration(age(run)) for run in runs], right=True),
        Column("SIZE", [size_text(run.size) for run in runs], right=True),
    ]
    if len({run.scenario for run in runs}) > 1:
        columns.insert(1, Column("SCENARIO", [_cut(printable(run.scenario)) for run in runs]))
    names = differing(runs)
    further: list[str] = []
    for name, heading in zip(names, short_names(names), strict=True):
        column = Column(printable(heading), [_cell(run, name) for run in runs])
        used = sum(each.width + 2 for each in columns)
        if len(further) < MOST and (width is None or used + column.width <= width):
            columns.append(column)
            further.append(name)
    yield click.style(_line([_aligned(each, each.heading) for each in columns]), bold=True)
    for row, run in enumerate(runs):
        cells = [_aligned(each, each.cells[row]) for each in columns]
        state = [column.heading for column in columns].index("STATE")
        cells[state] = click.style(cells[state], fg=STYLES.get(run.state))
        yield _line(cells)
    if len(further) < len(names):
        yield f"{len(names) - len(further)} more parameters differ. aip runs compare RUN RUN ... shows all of them."


def _best_column(runs: Sequence[Run]) -> Column:
    """Return the column of the best values. Its heading is the name of the value if all runs have the same."""
    names = {run.monitor for run in runs if run.best is not None}
    if len(names) != 1:
        return Column("BEST", [best_text(run) for run in runs])
    cells = ["" if run.best is None else f"{run.best:.4g}" for run in runs]
    return Column(f"BEST {_cut(printable(names.pop()))}", cells, right=True)


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cells).rstrip()


def _aligned(column: Column, cell: str) -> str:
    return cell.rjust(column.width) if column.right else cell.ljust(column.width)


def _cell(run: Run, name: str) -> str:
    return value_text(run.params[name]) if name in run.params else "-" if run.params else ""


def epochs_text(run: Run) -> str:
    """Return the completed epochs of a run, or the completed runs of a group."""
    if run.state == "damaged":
        return ""
    of = "" if run.total is None else f"/{run.total}"
    return f"{run.epochs}{of}{'' if run.kind == 'run' else ' folds' if run.kind == 'folds' else ' runs'}"


def best_text(run: Run) -> str:
    """Return the best monitored value with its name."""
    return "" if run.best is None else f"{run.best:.4g} {_cut(printable(run.monitor))}"


def value_text(value: Any) -> str:
    """Return the value of a parameter on one line, shortened."""
    return _cut(printable(_text(value)))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(map(_text, value)) or "[]"
    if isinstance(value, dict):
        return str(value.get(COMPONENT_KEY, value))
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as `5 min`."""
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{int(seconds // limit)} {unit}"
    return f"{int(seconds)} s"


def size_text(size: float) -> str:
    """Return a size in bytes, KiB, MiB and so on."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def as_json(run: Run) -> dict[str, Any]:
    """Return a run in JSON types. Numbers that are not finite are null."""
    found = {
        "path": str(run.path),
        "kind": run.kind,
        "state": run.state,
        "reason": run.reason,
        "scenario": run.scenario,
        "epochs": run.epochs,
        "total": run.total,
        "monitor": run.monitor,
        "mode": run.mode,
        "best": run.best,
        "best_epoch": run.best_epoch,
        "best_step": run.best_step,
        "updates": run.updates,
        "started": datetime.fromtimestamp(run.started, UTC).isoformat(timespec="seconds"),
        "bytes": run.size,
        "params": _finite(run.params),
    }
    return found | ({"runs": [as_json(each) for each in run.runs]} if run.runs else {})


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def terminal_width() -> int:
    """Return the width of the terminal, in characters."""
    return shutil.get_terminal_size().columns
