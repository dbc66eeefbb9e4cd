"""Parameters of the classification of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from aipcore.data.params import TrainDataParams, ValDataParams
from aipcore.params import Check, Choice, at_least, component, field, fraction, group, params
from aipcore.scenario import DataParams, ModelParams, ScenarioParams

SUFFIXES = (".csv", ".parquet")
"""Suffixes of the files of tables."""

Kind = Literal["number", "category", "boolean"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of columns."""


def named_kind(entry: str) -> tuple[str, Kind]:
    """Return the name and the kind of a column from an entry such as "age=number".

    Raises:
        ValueError: the entry has another form.
    """
    name, _, given = entry.rpartition("=")
    for kind in KINDS:
        if name and kind == given:
            return name, kind
    raise ValueError(entry)


def input_name(column: str) -> str:
    """Return the name of a column as an input of the model. Keras allows no `/`."""
    return column.replace("/", "_")


def _is_entry(entry: str) -> bool:
    return "=" in entry[1:] and entry.rpartition("=")[2] in KINDS


@params
class TableData(DataParams):
    """Tables with a class for each row."""

    files: tuple[str, ...] = field(
        (),
        help="Tables (.csv, .parquet) to train on. In aip predict and aip lav, tables to apply the model to. They are "
        "paths, folders, or patterns such as 'rows/*.csv'. By default, the penguins that are included in aip.",
    )
    target: str | None = field(None, help="Name of the column with the classes.")
    ignore: tuple[str, ...] = field((), help="Names of columns that are left out, such as an id.")
    columns: tuple[str, ...] = field(
        (),
        help="Kinds of columns, such as zip=category age=number. The kinds are number, category and boolean. Those of "
        "other columns are found from the training rows.",
        check=Check("NAME=number, NAME=category or NAME=boolean", _is_entry),
    )
    classes: tuple[str, ...] = field(
        (), help="Class names, in the order of the outputs. By default, those of the training rows, sorted."
    )
    weight: str | None = field(None, help="Name of a column with the weight of each row.")
    missing: tuple[str, ...] = field(
        ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?"),
        help="Cells that count as missing. Empty cells always do.",
    )
    separator: Literal["comma", "semicolon", "tab", "bar"] = field(
        "comma", help="Character between two columns of a CSV file."
    )
    val_share: float = field(
        0.2,
        help="Share of the rows of each class that is held out. The model is validated on them unless --val.files is "
        "given. 0 disables the validation.",
        check=fraction(),
    )
    val_seed: int = field(0, help="Seed of the choice of the held-out rows.", check=at_least(0))


@params
class TableTrainParams(TrainDataParams):
    """The training tables and their batching."""

    files: tuple[Path, ...] = field((), help="Tables to train on. By default, those of --data.files.")


@params
class TableValParams(ValDataParams):
    """The validation tables and their batching."""

    files: tuple[Path, ...] = field((), help="Tables to validate on. By default, rows are held out (data.val_share).")


@params
class GraphParams:
    """Parameters of every network for tables."""


@params
class Linear(GraphParams):
    """Logistic regression: one linear layer."""


@params
class MLP(GraphParams):
    """Fully connected layers."""

    units: tuple[int, ...] = field((64, 64), help="Units of each hidden layer.", check=at_least(1))
    dropout: float = field(0.1, help="Dropout rate after each hidden layer. 0 disables it.", check=fraction())


@params
class TableModel(ModelParams):
    """The network."""

    graph: Choice[GraphParams] = component(
        {"MLP": MLP, "Linear": Linear}, default="MLP", help="Architecture of the network."
    )


@params
class TableParams(ScenarioParams):
    """Parameters of the classification of tables."""

    data: TableData = group(TableData, help="Tables and their columns.")
    model: TableModel = group(TableModel, help="The network.")
    train: TableTrainParams = group(TableTrainParams, help="Training tables and their batching.")
    val: TableValParams = group(TableValParams, help="Validation tables and their batching.")
