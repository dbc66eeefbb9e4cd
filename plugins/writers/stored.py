"""Writer of lossless files, which aip evaluate reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aipcore.prediction import Prediction
from aipcore.prediction.saved_predictions import Stored, write_stored


def write(path: Path, predictions: Iterator[Prediction], about: Mapping[str, Any]) -> None:
    """Write predictions at the end, as a `.npz` or `.parquet` file.

    The post-processed outputs are the columns `predictions`. If the predictions have targets, these and the raw
    `outputs` are stored too.
    """
    stored = Stored(about=dict(about))
    for each in predictions:
        stored.add_sample(index=each.index, batch=each.batch, meta=each.meta, penalty=each.extras.penalty)
        stored.add_values("predictions", each.outputs)
        if each.targets is not None:
            stored.add_values("targets", each.targets)
            stored.add_values("outputs", each.raw)
            stored.add_values("masks", each.masks)
    write_stored(path, stored)
