"""Recorded error sentences: one file for the tests of a package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.amber import AmberSnapshotExtension

Refused = Callable[[type[Exception]], AbstractContextManager["pytest.ExceptionInfo[Exception]"]]

REPOSITORY = Path(__file__).parents[2]


class Sentences(AmberSnapshotExtension):  # type: ignore[misc]
    """The file `sentences.ambr` in the folder of the tests."""

    snapshot_dirname = "."

    @classmethod
    def get_file_basename(cls, *, test_location: Any, index: Any) -> str:
        """Return the file's name without its suffix."""
        return "sentences"

    @classmethod
    def get_snapshot_name(cls, *, test_location: Any, index: Any = 0) -> str:
        """Return the name of a sentence: the test, from the second one on a number, and the module."""
        name = super().get_snapshot_name(test_location=test_location, index=index)
        return f"{name}.({Path(test_location.filepath).stem})"

    @classmethod
    def matches_test_location(cls, *, test_location: Any, snapshot_location: str) -> bool:
        """Return True if the sentences of a test are in a file."""
        return Path(snapshot_location).parent == Path(test_location.filepath).parent


@pytest.fixture
def refused(snapshot: SnapshotAssertion, tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """Return a context manager for code that must raise an error with the recorded sentence.

    The sentences of a package are in `sentences.ambr` beside its tests. After a change, remove the file, run these
    tests with `-n 0 --snapshot-update`, slow ones too, and read the difference as a user would.
    """
    recorded = snapshot.use_extension(Sentences)
    temporary = re.compile(rf"{re.escape(str(tmp_path_factory.getbasetemp()))}(/[^/\s'\",]*[0-9])?")
    places = re.compile(rf"{re.escape(str(REPOSITORY))}/([^,\s]*)(, line \d+)?")

    # Keras and TensorFlow number them over all tests of a process.
    layers = re.compile(r"\b(dense|embed|functional)(_\d+)?(?=/)")
    graphs = re.compile(r"\bwhile_body_\d+_const_\d+")

    @contextmanager
    def refused(kind: type[Exception]) -> Iterator[pytest.ExceptionInfo[Exception]]:
        with pytest.raises(kind) as caught:
            yield caught
        sentence = places.sub(r"\1", temporary.sub("TMP", str(caught.value)))
        assert graphs.sub("GRAPH", layers.sub(r"\1_N", sentence)) == recorded

    return refused
