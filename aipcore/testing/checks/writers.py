"""Checks of writers of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

from aipcore.testing.registry import conformance_check
from aipcore.testing.results import CheckSkippedError, require
from aipcore.testing.subject import Subject
from aipcore.training.export.requirements import lacking_packages

if TYPE_CHECKING:
    from aipcore.prediction import Prediction

SAMPLES = 5


def _predictions(samples: int) -> Iterator[Prediction]:
    import numpy as np

    from aipcore.prediction import Prediction

    for index in range(samples):
        scores = np.arange(3, dtype=np.float32) / (index + 1)
        outputs = {"scores": scores, "class": f"class {index % 3}", "probability": float(scores.max())}
        yield Prediction(index=index, outputs=outputs, raw={"scores": scores}, meta={"path": f"scans/{index}.png"})


def _target(subject: Subject) -> Path:
    place = subject.folder / "place"
    place.mkdir()
    return place / f"found{getattr(subject.entry.record, 'suffix', '')}"


def _write(subject: Subject, path: Path, predictions: Iterator[Prediction]) -> None:
    if lacking := lacking_packages(subject.entry.record):
        raise CheckSkippedError(f"it {lacking}")
    here = subject.folder / "here"
    here.mkdir()
    with chdir(here):
        subject.build(path, predictions, {})
    require(not list(here.iterdir()), "it writes into the working folder: write at the given path only")


def _check_files(path: Path) -> None:
    require(path.exists(), f"it did not write {path.name}")
    others = [other.name for other in path.parent.iterdir() if other != path]
    require(not others, f"it also writes {', '.join(others)}: write at the given path only")


@conformance_check("writer")
def writes_all_predictions(subject: Subject) -> None:
    """The writer reads all predictions, and writes at the given path and nowhere else."""
    path, predictions = _target(subject), _predictions(SAMPLES)
    _write(subject, path, predictions)
    require(next(predictions, None) is None, "it does not read all predictions: iterate over them to the end")
    _check_files(path)
    written = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    require(any(file.stat().st_size for file in written), "the files are empty")


@conformance_check("writer", needs=("writes_all_predictions",))
def accepts_no_predictions(subject: Subject) -> None:
    """Without any prediction, as if all samples were skipped, the writer still creates its path."""
    path = _target(subject)
    _write(subject, path, iter(()))
    _check_files(path)


@conformance_check("writer", needs=("writes_all_predictions",))
def reports_unwritable_paths(subject: Subject) -> None:
    """If the path is a folder with a file, the writer raises an `OSError` or `UsageError` and leaves the file alone."""
    from aipcore.errors import UsageError

    path = _target(subject)
    path.mkdir()
    (path / "other.txt").write_text("other", encoding="utf-8")
    try:
        _write(subject, path, _predictions(SAMPLES))
    except (OSError, UsageError):
        pass
    else:
        raise AssertionError("it writes into an existing folder: create the path yourself, without exist_ok")
    left = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    require(left == {"other.txt": b"other"}, "it changes files in an existing folder")
