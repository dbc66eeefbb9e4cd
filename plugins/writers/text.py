"""Writers of text files, sample by sample: CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aipcore.errors import UsageError
from aipcore.prediction import Prediction
from aipcore.prediction.data import cut_masked_end
from aipcore.prediction.saved_predictions import to_json

BARE_OUTPUT = "output"
"""Column of a single unnamed output."""


def write_json_lines(path: Path, predictions: Iterator[Prediction], about: Mapping[str, Any]) -> None:
    """Write one JSON object a line.

    It has `index`, `meta` if there is any, and the post-processed `outputs` by name. NaN and infinity become null. It
    has `masks` if positions before the last valid one are masked.
    """
    del about
    with path.open("w", encoding="utf-8") as file:
        for each in predictions:
            line: dict[str, Any] = {"index": each.index}
            if each.meta is not None:
                line["meta"] = to_json(each.meta)
            line["outputs"] = to_json(each.outputs)
            masks = _inner_masks(each)
            if masks:
                line["masks"] = to_json(masks)
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_csv(path: Path, predictions: Iterator[Prediction], about: Mapping[str, Any]) -> None:
    """Write one row a sample: its index, its meta, and the post-processed outputs.

    The keys of a mapping in meta are the columns `meta.KEY`. An array of shape [1] is a number,
    other arrays and lists are JSON. NaN and infinity are empty.

    Raises:
        UsageError: a sample has other columns than the first one, or masks, which do not fit into a table.
    """
    del about
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        header: list[str] | None = None
        for each in predictions:
            row = _row(each)
            if header is None:
                header = [name for name, _ in row]
                writer.writerow(header)
            if [name for name, _ in row] != header or len(set(header)) < len(header):
                raise _no_table(each, f"has the columns {', '.join(name for name, _ in row)}", header)
            if _inner_masks(each):
                raise _no_table(each, "has masked positions", header)
            writer.writerow([_cell(value) for _, value in row])
        if header is None:
            writer.writerow(["index"])


def _row(prediction: Prediction) -> list[tuple[str, Any]]:
    row: list[tuple[str, Any]] = [("index", prediction.index)]
    if isinstance(prediction.meta, Mapping):
        row += [(f"meta.{key}", value) for key, value in prediction.meta.items()]
    elif prediction.meta is not None:
        row.append(("meta", prediction.meta))
    for name, value in prediction.outputs.items():
        # The output of Dense(1) is a number. A masked sequence stays a list, however long it is.
        single = getattr(value, "shape", None) == (1,) and name not in prediction.masks
        row.append((name or BARE_OUTPUT, value[0] if single else value))
    return row


def _cell(value: Any) -> str:
    value = to_json(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _no_table(prediction: Prediction, what: str, header: list[str]) -> UsageError:
    return UsageError(
        f"The prediction of sample {prediction.index} {what}, which does not fit into a CSV file with the columns "
        f"{', '.join(header)}. Give a file that ends in .jsonl."
    )


def _inner_masks(prediction: Prediction) -> dict[str, Any]:
    """Return the masks without their masked ends; none if no other position is masked."""
    masks = {name: cut_masked_end(mask, mask) for name, mask in prediction.masks.items()}
    return {} if all(mask.all() for mask in masks.values()) else masks
