"""The columns of a training table: their kinds and the classes of the target, with checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from aip_plugins.scenarios.classes import checked_classes
from aip_plugins.scenarios.tabular_classification.params import Kind, TableData, input_name, named_kind
from aip_plugins.scenarios.tabular_classification.table import Array, Table, is_number

from aipcore.errors import DataError, UsageError
from aipcore.params import nearest, one_of
from aipcore.params.names import count

FEW = 20
"""The number of different values up to which a target has classes and a text is a category, for any number of rows."""

MOST_CATEGORIES = 256
"""The most categories that are found in a column."""

MOSTLY = 9
"""The number of different numbers for each other text from which a column should have only numbers."""

ROWS_PER_CLASS = 10
"""A target of numbers with fewer rows for each value on average looks continuous."""


def find_columns(table: Table, data: TableData) -> TableData:
    """Return the parameters of a training table, completed with the kinds of its columns and its classes.

    Raises:
        UsageError: a column that an option names does not exist, or the target is not named.
        DataError: a column cannot be used.
    """
    target = _target(table, data)
    given = dict(map(named_kind, data.columns))
    if len(given) < len(data.columns):
        raise UsageError("--data.columns gives a column two kinds. Give each column one.")
    for option, names in {
        "ignore": data.ignore,
        "columns": given,
        "weight": [data.weight] if data.weight else [],
    }.items():
        for name in names:
            _require(table, name, f"--data.{option}")
    if "" in table.columns:
        raise DataError(
            f"{table.title}: column {[*table.names].index('') + 1} has no name. Name it in the first line, or remove "
            "it (in pandas, with to_csv(..., index=False))."
        )
    for name in table.columns:
        if name.startswith("__index_level_") and name not in given:
            raise DataError(
                f"{table.title}: the column {name} is the index of pandas. Leave it out with --data.ignore {name}, or "
                "write the file with to_parquet(..., index=False)."
            )
    used = {target, data.weight}
    for name in used & {*data.ignore}:
        raise UsageError(
            f"--data.ignore {name} is the {'target' if name == target else 'weight'}. Leave one of them out."
        )
    for name, kind in given.items():
        if name in used or name in data.ignore:
            raise UsageError(
                f"--data.columns {name}={kind} has no effect, because {name} is not an input. Leave it out."
            )
    kinds = {name: given.get(name) or _kind(table, name) for name in table.columns if name not in used}
    if not kinds:
        raise DataError(f"{table.title} has no columns besides the target. Add columns to predict {target} from.")
    for name in kinds:
        if input_name(name) != name and input_name(name) in kinds:
            raise DataError(
                f"{table.title}: the columns {name} and {input_name(name)} would be one input of the model. Rename one."
            )
    _refuse_useless(table, kinds, given)
    return attrs.evolve(
        data,
        target=target,
        columns=tuple(f"{name}={kind}" for name, kind in kinds.items()),
        classes=checked_classes(data.classes, lambda: _classes(table, target)),
    )


def _target(table: Table, data: TableData) -> str:
    if data.target is None:
        raise UsageError(f"--data.target is required: the column with the classes. Choose {one_of(table.names)}.")
    return _require(table, data.target, "--data.target")


def _require(table: Table, name: str, option: str) -> str:
    if name in table.names:
        return name
    near = nearest(name, table.names)
    hint = f"Did you mean {one_of(near)}?" if near else f"Its columns: {', '.join(table.names)}."
    if any(map(is_number, filter(None, table.names))):
        hint += " The first line of the file must name the columns."
    elif len(table.names) == 1 and any(mark in table.names[0] for mark in ";|\t"):
        hint += " Set the character between the columns, such as --data.separator semicolon."
    raise UsageError(f"{option} {name}: {table.title} does not have this column. {hint}")


def _kind(table: Table, name: str) -> Kind:
    if table.columns[name].dtype != object:
        return "number"
    texts = table.known(name)
    if texts and {text.casefold() for text in texts} <= {"true", "false"}:
        return "boolean"
    others = {text for text in texts if not is_number(text)}
    if len(texts) - len(others) > max(FEW, MOSTLY * len(others)) and others:
        row = next(row for row, text in enumerate(table.columns[name], start=1) if text in others)
        raise DataError(
            f"{table.title}: the column {name} has numbers, but {table.columns[name][row - 1]!r} in row {row} is not "
            "one. Correct such cells, add them to --data.missing, or set the kind with --data.columns "
            f"{_words([f'{name}=category'])}."
        )
    return "category" if others else "number"


def _refuse_useless(table: Table, kinds: dict[str, Kind], given: dict[str, Kind]) -> None:
    """Refuse columns with one value, and found categories that are rather texts or ids.

    Raises:
        DataError: there are such columns.
    """
    single, varied = [], []
    for name, kind in kinds.items():
        rows = table.columns[name]
        known = table.known(name)
        present = np.count_nonzero(~np.isnan(rows) if rows.dtype != object else rows != "")
        if not known or (len(known) == 1 and present == len(rows)):
            single.append(name)
        elif kind == "category" and name not in given:
            limit = min(MOST_CATEGORIES, max(FEW, present // 2))
            if len(known) > limit:
                varied.append(name)
    if single:
        raise DataError(
            f"{table.title}: the {_listed(single)} only one value, from which nothing can be learned. Leave "
            f"{'it' if len(single) == 1 else 'them'} out with --data.ignore {_words(single)}."
        )
    if varied:
        if all(re.fullmatch(r"-?\d+(,\d+)?", text) for text in table.known(varied[0])):
            raise DataError(f"{table.title}: the numbers of {varied[0]} have decimal commas. Replace them by points.")
        raise DataError(
            f"{table.title}: the {_listed(varied)} too many different texts for categories. Leave "
            f"{'it' if len(varied) == 1 else 'them'} out with --data.ignore {_words(varied)}, or set the kind with "
            f"--data.columns {_words([f'{name}=category' for name in varied])}."
        )


def _listed(names: Sequence[str]) -> str:
    return f"column {names[0]} has" if len(names) == 1 else f"columns {', '.join(names)} have"


def _words(names: Sequence[str]) -> str:
    return " ".join(f"'{name}'" if not name.replace("=", "").isidentifier() else name for name in names)


def _classes(table: Table, target: str) -> tuple[str, ...]:
    """Return the sorted classes of the target.

    Raises:
        DataError: it has one value, or looks continuous.
    """
    texts = sorted(set(table.texts(target)) - {""})
    if len(texts) < 2:
        raise DataError(
            f"{table.title}: the target {target} has {f'only the value {texts[0]!r}' if texts else 'no values'}. "
            "Give rows of at least two classes."
        )
    numbers = all(map(is_number, texts))
    rows = len(table)
    if len(texts) > FEW and len(texts) * (ROWS_PER_CLASS if numbers else 2) > rows:
        found = f"{len(texts):,} different values in {rows:,} rows"
        if numbers:
            raise DataError(
                f"{table.title}: the target {target} looks continuous ({found}), but this scenario predicts classes. "
                "Replace the values by ranges, or write a scenario like examples/table_columns.py. If the values are "
                "classes, list them in --data.classes."
            )
        raise DataError(
            f"{table.title}: the target {target} has {found}, which is too many for classes. Choose another target, or "
            "list the classes in --data.classes."
        )
    return tuple(sorted(texts, key=float) if numbers else texts)


def class_ids(table: Table, data: TableData) -> Any:
    """Return the class of each row, int32 of shape [rows].

    Raises:
        DataError: a row has no class, or one that is not in `data.classes`.
    """
    target = str(data.target)
    texts = table.texts(target)
    numbers = {name: number for number, name in enumerate(data.classes)}
    unknown = [row for row, text in enumerate(texts) if text not in numbers]
    if unknown:
        first = unknown[0]
        where, without = f"{table.title}, row {first + 1}", sum(not texts[row] for row in unknown)
        if not texts[first]:
            raise DataError(
                f"{where} has no value of the target {target}. Remove all rows without one ({count(without, 'row')})."
            )
        raise DataError(
            f"{where} has the class {texts[first]!r}, but the classes are {', '.join(data.classes)}. Remove the rows "
            f"of other classes ({count(len(unknown) - without, 'row')}), or add such rows to the training table."
        )
    return np.array([numbers[text] for text in texts], np.int32)


def inputs_of(table: Table, data: TableData) -> dict[str, Array]:
    """Return the inputs of the model by column: float32 with NaN, or strings, of shape [rows].

    Raises:
        DataError: a value is not of the kind of its column.
    """
    made: dict[str, Array] = {}
    for name, kind in map(named_kind, data.columns):
        match kind:
            case "number":
                made[input_name(name)] = table.numbers(name)
            case "boolean":
                made[input_name(name)] = table.flags(name)
            case "category":
                made[input_name(name)] = table.texts(name)
    return made


def weights_of(table: Table, name: str) -> Array:
    """Return the weights of the rows, float32 of shape [rows].

    Raises:
        DataError: a weight is missing or negative, or all are 0.
    """
    weights = table.numbers(name)
    wrong = ~(weights >= 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{table.title}, row {row + 1} has the weight {weights[row]} in {name}. Give all rows a weight that is not "
            "negative."
        )
    if not weights.any():
        raise DataError(f"{table.title}: all rows have the weight 0 in {name}. Give some rows another weight.")
    return weights


def held_out(classes: Array, share: float, seed: int) -> Array:
    """Return a mask of random rows: a share of each class, but not all rows of a class.

    Args:
        classes: the class of each row, shape [rows].
        share: the share of the rows of each class, rounded.
        seed: seed of the choice.
    """
    random = np.random.default_rng(seed)
    mask = np.zeros(len(classes), bool)
    for number in np.unique(classes):
        rows = random.permutation(np.flatnonzero(classes == number))
        mask[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    return mask
