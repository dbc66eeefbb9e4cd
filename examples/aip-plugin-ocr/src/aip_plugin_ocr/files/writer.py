"""Predictions as copies of the files that were read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from aip_plugin_ocr.files.hdf5 import replace_texts
from aip_plugin_ocr.files.lines import HDF5_SUFFIXES, PAGE_SUFFIXES
from aip_plugin_ocr.files.page import with_texts
from aipcore.errors import UsageError

SUFFIX = ".pages"


def pages_writer(index: int) -> Callable[[Path, Iterable[Any], Mapping[str, Any]], None]:
    """Return the writer of a folder with a file for each file that was read.

    Args:
        index: index of the predicted texts in PageXML.
    """
    return partial(_write, index)


def _write(index: int, path: Path, predictions: Iterable[Any], about: Mapping[str, Any]) -> None:
    """Write a new folder. `a.xml` becomes `a.pred.xml`, `a.h5` becomes `a.pred.h5`, `a.png` becomes `a.pred.txt`.

    Folders below the common folder of all files are kept. The folder gets its name when it is complete.

    Raises:
        UsageError: the predictions are not from files, or a file is predicted twice.
    """
    del about
    made = path.with_name(f".{path.name}.{os.getpid()}")
    (made / "files").mkdir(parents=True)
    try:
        sources: dict[Path, None] = {}
        for source, found in groupby(predictions, _path):
            if source in sources:
                raise UsageError(f"{source} is listed twice. Pass each file once.")
            # Predictions contain all outputs of the model. Only texts are kept.
            _write_copy(made / str(len(sources)), source, dict(map(_text, found)), index)
            sources[source] = None
        for number, target in enumerate(_targets(sources)):
            (made / "files" / target).parent.mkdir(parents=True, exist_ok=True)
            (made / str(number)).rename(made / "files" / target)
        (made / "files").rename(path)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _path(prediction: Any) -> Path:
    meta = prediction.meta
    if not isinstance(meta, Mapping) or "path" not in meta:
        raise UsageError(
            f"{SUFFIX} folders are copies of files, but the predicted lines are not from files. Pass "
            "--data.files, or use --output FILE.csv."
        )
    return Path(os.path.abspath(meta["path"]))  # noqa: PTH100


def _text(prediction: Any) -> tuple[int, tuple[str, float | None]]:
    """Return the position of a line in its file, its text and its confidence."""
    outputs = prediction.outputs
    return prediction.meta.get("number", 0), (str(outputs["text"]), outputs.get("confidence"))


def _write_copy(target: Path, source: Path, texts: Mapping[int, tuple[str, float | None]], index: int) -> None:
    suffix = source.suffix.lower()
    if suffix in PAGE_SUFFIXES:
        target.write_bytes(with_texts(source, texts, index=index))
    elif suffix in HDF5_SUFFIXES:
        shutil.copyfile(source, target)
        replace_texts(target, {number: text for number, (text, _) in texts.items()})
    else:
        target.write_text(texts[0][0] + "\n", encoding="utf-8")


def _targets(sources: Collection[Path]) -> Collection[Path]:
    """Return different names for the copies, with the folders below the common folder."""
    common = Path(os.path.commonpath([each.parent for each in sources])) if sources else Path()
    # Keys of a dict: a set that keeps the order.
    targets: dict[Path, None] = {}
    for number, source in enumerate(sources):
        folder = source.parent.relative_to(common)
        end = ".pred.txt"
        names = [source.name.partition(".")[0], source.stem, source.name]
        if source.suffix.lower() in (*PAGE_SUFFIXES, *HDF5_SUFFIXES):
            # a.bin.xml and a.nrm.xml are different pages.
            end, names = f".pred{source.suffix.lower()}", names[1:]
        # Two images may differ in the second part of their names only.
        choices = (folder / f"{name}{end}" for name in (*names, f"{source.name}.{number}"))
        targets[next(each for each in choices if each not in targets)] = None
    return targets
