"""Samples of strings: kept unchanged from every kind of source to the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pandas
import pytest

from aipcore.data.pipeline import Pipeline
from aipcore.data.sample import ColumnSpec
from aipcore.errors import DataError
from aipcore.scenario import Sample, Stream

WORDS = ["a", "longer text", "", "grün", "b" * 300]
LABELS = np.arange(5)


class Indexed:
    """Samples by index."""

    def __len__(self) -> int:
        return len(WORDS)

    def __getitem__(self, index: int) -> Any:
        return WORDS[index], LABELS[index]


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: (WORDS, LABELS),
    "fixed width": lambda: (np.array(WORDS), LABELS),
    "objects": lambda: (np.array(WORDS, object), LABELS),
    "StringDType": lambda: (np.array(WORDS, np.dtypes.StringDType()), LABELS),
    "pandas": lambda: (pandas.Series(WORDS), LABELS),
    "bytes": lambda: ([word.encode() for word in WORDS], LABELS),
    "samples": lambda: [Sample(inputs=word, targets=label) for word, label in zip(WORDS, LABELS, strict=True)],
    "NumPy's strings": lambda: [(np.str_(word), label) for word, label in zip(WORDS, LABELS, strict=True)],
    "indexed": Indexed,
    "stream": lambda: Stream(lambda: zip(WORDS, LABELS, strict=True)),
    "stream of batches": lambda: Stream(lambda: iter([(WORDS, LABELS)]), batched=True),
}


def texts(column: Any) -> list[str]:
    """Return the strings of a column as `str`."""
    return [each.decode() if isinstance(each, bytes) else str(each) for each in column.reshape(-1)]


def same(sample: Sample) -> Sample:
    """Return a sample unchanged."""
    return sample


@pytest.mark.parametrize("processors", [[], [same]])
@pytest.mark.parametrize("kind", SOURCES)
def test_strings_stay_as_they_are(kind: str, processors: list[Any]) -> None:
    """The batches hold the strings of the source, with and without processing, and the dtype is string."""
    with Pipeline(SOURCES[kind](), processors, workers=0) as pipeline:
        assert pipeline.dataset().specs()[0] == {"": ColumnSpec(shape=(), dtype="string")}
        blocks = list(pipeline.loader(5).blocks(0, chunk=1))
    (block,) = blocks
    assert block.inputs[""].dtype == object
    assert texts(block.inputs[""]) == WORDS


def test_processors_see_text() -> None:
    """A processor receives the author's string, and may return another one or a list of them."""

    def split(sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs={"first": sample.inputs[:1], "all": list(sample.inputs[:4])})

    with Pipeline((WORDS, LABELS), [split], workers=0) as pipeline:
        (block,) = pipeline.loader(5).blocks(0, chunk=1)
        specs = pipeline.dataset().specs()[0]
    assert specs["all"] == ColumnSpec(shape=(None,), dtype="string")
    assert block.inputs["first"][0].tolist() == ["a", "l", "", "g", "b"]
    assert block.inputs["all"][0, :2].tolist() == [["a", "", "", ""], list("long")]


def test_zero_bytes_at_the_end_are_kept() -> None:
    """Bytes are data, such as those of an image file, so none is cut off."""
    files = [b"\xff\x00\x00", b"\x00"]
    for data in [(files,), [(each,) for each in files]]:
        with Pipeline(data) as pipeline:
            (block,) = pipeline.loader(2).blocks(0, chunk=1)
        assert block.inputs[""].tolist() == [files]


def test_padding_value() -> None:
    """Lists of strings are padded with the author's string."""
    samples = [Sample(inputs=["a"]), Sample(inputs=["b", "c"])]
    with Pipeline(samples, padding={"inputs": "[PAD]"}) as pipeline:
        (block,) = pipeline.loader(2).blocks(0, chunk=1)
    assert block.inputs[""].tolist() == [[["a", "[PAD]"], ["b", "c"]]]


@pytest.mark.parametrize("processors", [[], [same]])
@pytest.mark.parametrize("preload", ["on", "off"])
def test_buckets_by_the_length_of_the_text(processors: list[Any], preload: Any) -> None:
    """The length of a string counts for bucketing."""
    words = ["a" * (n % 7) for n in range(28)]
    with Pipeline((words, np.arange(28)), processors, preload=preload, workers=0) as pipeline:
        blocks = pipeline.loader(4, shuffle=True, bucket_window=7).blocks(0, chunk=1)
        assert sorted(len(set(block.inputs[""][0].tolist())) for block in blocks) == [1] * 7


@pytest.mark.parametrize(
    "data",
    [
        (["a", None], [0, 1]),
        (pandas.Series(["a", "b", float("nan")], dtype=object), [0, 1, 2]),
        [Sample(inputs="a"), Sample(inputs=1.0)],
        [Sample(inputs="a"), Sample(inputs=np.array(None))],
        [Sample(inputs=1.0), Sample(inputs="a")],
        [Sample(inputs="a"), Sample(inputs=["a"])],
    ],
)
def test_missing_strings_are_named(data: Any, refused: Any) -> None:
    """Something else between strings is refused, with its place."""
    with refused(DataError):
        Pipeline(data, origin="x").dataset()


def test_another_type_on_demand(refused: Any) -> None:
    """A processed sample that is not a string any more is refused, with its index."""

    def process(sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs if sample.targets != 45 else 1.0)

    words = (["a"] * 500, np.arange(500))
    with Pipeline(words, [process], preload="off", workers=0) as pipeline, refused(DataError):
        pipeline.dataset().batch(np.array([3, 45]))
