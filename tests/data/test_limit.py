"""Limits on data of each kind, and epochs without their last, smaller batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.pipeline import Pipeline
from aipcore.errors import DataError
from aipcore.scenario import GeneratingProcessor, Sample


def sample(number: int) -> Sample:
    """Return a sample with its number as input and target."""
    return Sample(inputs=np.float32([number]), targets=np.int32(number), meta=number)


class Endless:
    """An endless iterable that counts its samples."""

    given = 0

    def __iter__(self) -> Iterator[Sample]:
        while True:
            self.given += 1
            yield sample(self.given - 1)


class ByIndex:
    """Samples by index that refuse access beyond the fourth."""

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> Sample:
        assert index < 4
        return sample(index)


class Twice(GeneratingProcessor):
    """A processor that makes two samples of each."""

    def generate(self, sample: Sample) -> list[Sample]:
        return [sample, sample]


KINDS: dict[str, Any] = {
    "arrays": lambda: (np.arange(9, dtype=np.float32)[:, None], np.arange(9)),
    "mappings of arrays": lambda: ({"x": np.arange(9)[:, None]}, {"y": np.arange(9)}),
    "nested lists": lambda: ([[float(n)] for n in range(9)], list(range(9))),
    "a list of samples": lambda: [sample(number) for number in range(9)],
    "an iterator": lambda: (sample(number) for number in range(9)),
    "an object by index": ByIndex,
    "a data set": lambda: as_dataset([sample(number) for number in range(9)], "numbers"),
}


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_samples(kind: str, preload: Any) -> None:
    """The limit selects the first four samples of any source."""
    with Pipeline(KINDS[kind](), workers=0, limit=4, preload=preload) as pipeline:
        targets = [next(iter(np.atleast_1d(row))) for row in _targets(pipeline)]
    assert targets == [0, 1, 2, 3]


def _targets(pipeline: Pipeline) -> list[Any]:
    rows = [each.targets for each in pipeline.samples()]
    return [row["y"] if isinstance(row, dict) else row for row in rows]


def test_nothing_is_read_beyond_the_limit() -> None:
    """An endless iterable is not read beyond the limit."""
    data = Endless()
    assert len(Pipeline(data, workers=0, limit=5)) == 5
    assert data.given == 5


def test_a_limit_beyond_the_data() -> None:
    """A limit beyond the data selects all samples."""
    assert len(Pipeline(KINDS["a list of samples"](), workers=0, limit=100)) == 9
    assert len(Pipeline(KINDS["arrays"](), workers=0, limit=100)) == 9


def test_is_counted_before_processing() -> None:
    """The limit counts samples before processing, so a generating processor can exceed it."""
    assert len(Pipeline(KINDS["an iterator"](), [Twice()], workers=0, limit=3)) == 6


def test_data_of_no_kind_is_named_as_without_a_limit(refused: Any) -> None:
    """The limit does not hide invalid data."""
    with refused(DataError):
        len(Pipeline(3, workers=0, limit=5))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_last_smaller_batch_is_left_out(shuffle: bool) -> None:
    """Each epoch has its own order of all samples without the last ones, as with tf.data's drop_remainder."""
    with Pipeline(KINDS["arrays"](), workers=0, seed=3) as pipeline:
        whole = pipeline.loader(4, shuffle=shuffle)
        cut = pipeline.loader(4, shuffle=shuffle, drop_remainder=True)
        assert (cut.batching.steps, cut.batching.full_steps, cut.batching.samples) == (2, 2, 8)
        for epoch in range(3):
            batches = [block.targets[""][0].tolist() for block in whole.blocks(epoch, chunk=1)]
            assert [block.targets[""][0].tolist() for block in cut.blocks(epoch, chunk=1)] == batches[:2]
        assert pipeline.loader(3, drop_remainder=True).batching.steps == 3


def test_no_batch_left_is_refused(refused: Any) -> None:
    """Fewer samples than one batch are refused."""
    with Pipeline(KINDS["arrays"](), workers=0) as pipeline:
        assert pipeline.loader(9, drop_remainder=True).batching.steps == 1
        with refused(DataError):
            pipeline.loader(10, drop_remainder=True)
