"""Output of predictions to files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aipcore.errors import UsageError
from aipcore.prediction.data import cut_masked_end
from aipcore.prediction.predictor import Prediction
from aipcore.prediction.saved_predictions import Stored, to_json, write_stored


def write_predictions(path: Path, predictions: Iterable[Prediction], about: Mapping[str, Any]) -> int:
    """Write predictions: `.jsonl` line by line, `.npz` and `.parquet` at the end.

    A JSON line has `index`, `meta` if there is any, and the post-processed `outputs` by name. NaN and infinity become
    null. It has `masks` if positions before the last valid one are masked. The other two formats store the
    post-processed outputs as `predictions`. If the predictions have targets, they store these and the raw `outputs`.

    Returns:
        the number of predictions.

    Raises:
        UsageError: the file cannot be written.
    """
    if path.suffix == ".jsonl":
        return _write_lines(path, predictions)
    stored = Stored(about=dict(about))
    for each in predictions:
        stored.add_sample(index=each.index, batch=each.batch, meta=each.meta, penalty=each.extras.penalty)
        stored.add_values("predictions", each.outputs)
        if each.targets is not None:
            stored.add_values("targets", each.targets)
            stored.add_values("outputs", each.raw)
            stored.add_values("masks", each.masks)
    write_stored(path, stored)
    return len(stored)


def _write_lines(path: Path, predictions: Iterable[Prediction]) -> int:
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for each in predictions:
                line: dict[str, Any] = {"index": each.index}
                if each.meta is not None:
                    line["meta"] = to_json(each.meta)
                line["outputs"] = to_json(each.outputs)
                masks = {name: cut_masked_end(mask, mask) for name, mask in each.masks.items()}
                if not all(mask.all() for mask in masks.values()):
                    line["masks"] = to_json(masks)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}). Give another file, or free some space."
        ) from error
    return count
