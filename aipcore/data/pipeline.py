"""The pipeline from a scenario's data, through processors, to a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from aipcore.data.adapters import as_dataset, as_samples, as_source, first_samples
from aipcore.data.adapters.arrays import is_arrays
from aipcore.data.adapters.elements import Convert
from aipcore.data.adapters.indexed import IndexedSamples, is_indexed
from aipcore.data.adapters.iterables import IterableSource
from aipcore.data.adapters.samples import SampleList, TooLargeError, is_unsized, stack, within
from aipcore.data.batching import Batching, Layout
from aipcore.data.cache import cache, count_generated
from aipcore.data.dataset import Dataset, MemoryDataset, Padding, with_specs
from aipcore.data.fingerprint import fingerprint
from aipcore.data.folds import Select, selected
from aipcore.data.loader import DataLoader
from aipcore.data.parallel import ParallelDataset
from aipcore.data.params import DEFAULT_BATCH_SIZE
from aipcore.data.preprocessed import stream_of
from aipcore.data.processed import GeneratedSamples, ProcessedDataset, ProcessedSamples, probe
from aipcore.data.processing import Part, Processors, SampleError, SkippedSamples
from aipcore.data.processor import Mode, as_processors
from aipcore.data.sample import SIDES, DeclaredSpecs, Sample, Samples, Specs
from aipcore.data.sampler import Buckets, Indices, SampleOrder, SequentialOrder
from aipcore.data.stream import Source, Stream
from aipcore.data.streamed import StreamDataset
from aipcore.data.vectorized import of_batches
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params import names

Preload = Literal["auto", "on", "off"]


def evaluation_batch_size(dataset: Dataset, *given: int | None) -> int:
    """Return the first given batch size; before the last one, a stream's own batches count."""
    stream = stream_of(dataset)
    own = None if stream is None else stream.batch_size
    return next(size for size in (*given[:-1], own, given[-1]) if size is not None)


class Pipeline:
    """The processed samples of a source, for one mode. Needs no scenario.

    The results of the leading deterministic processors are kept in memory if they fit, so these processors run once. If
    no random processor follows, the samples are stacked and cost no more than raw arrays. Otherwise samples are made on
    demand, each as a function of (seed, earlier visits, index) alone. Nothing is read before it is needed.

    Args:
        source: a tuple `(inputs, targets)` or `(inputs, targets, weights)` of stacked arrays, an iterable of samples
            (read once and kept), an object with `__len__` and `__getitem__` (read on demand), or a stream: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable with a state, or a `Stream`. A sample is a
            `Sample` or a tuple of its inputs, targets and weight.
        processors: `Processor`, `RandomProcessor`, `RandomBatchProcessor` and `GeneratingProcessor` objects, or
                functions from sample to sample. Processors for other modes are left out.
        mode: the purpose of the data.
        seed: the seed of the random processors and of the sample order.
        origin: the name of the source in errors.
        preload: keep processed samples in memory if they fit ("auto"), always ("on"), or never ("off").
        preload_bytes: the memory limit of "auto", in bytes.
        on_error: for a sample that cannot be read or processed, raise an error or skip and count the sample.
        specs: shapes and dtypes of inputs, targets and weights, if the samples do not determine them; see
            `Scenario.sample_specs`.
        padding: the padding values for batches of varying shapes; see `Scenario.padding`.
        workers: the number of worker processes, 0: none; "auto": one per core, if they pay. Or a pool shared by several
            pipelines, which `close` leaves running.
        limit: use only this many samples from the start of the source; by default all.
        convert: turns an entry or element of the source into a sample, if it is not one; see `Scenario.to_sample`.
        again: returns the source again, for an iterator, which can be read only once.
        streamed: True if an iterable without a length is a stream. It is one too if `preload` is "off", or if its
            samples exceed `preload_bytes` with "auto".
        window: the number of samples of a stream that are put into a random order together; 0: none.
        process: the index of this process and the number of processes that train together, for a sharded `Stream`.
        select: selects some of the unprocessed samples, for a cross-validation. A stream is then an error.
    """

    def __init__(
        self,
        source: Any,
        processors: Iterable[Any] = (),
        *,
        mode: Mode = Mode.TRAINING,
        seed: int = 0,
        origin: str = "the source",
        preload: Preload = "auto",
        preload_bytes: int = 2**30,
        on_error: Literal["raise", "skip"] = "raise",
        specs: DeclaredSpecs | None = None,
        padding: Mapping[str, Any] | None = None,
        workers: int | Literal["auto"] | WorkerPool = "auto",
        limit: int | None = None,
        convert: Convert | None = None,
        again: Callable[[], Any] | None = None,
        streamed: bool = False,
        window: int = 0,
        process: tuple[int, int] = (0, 1),
        select: Select | None = None,
    ) -> None:
        self.mode = mode
        self.origin = origin
        self.processors = Processors.make(as_processors(processors, origin), mode, seed=seed, origin=origin)
        self._convert = convert
        self._window = window
        self._select = select
        again = again if again is not None or isinstance(source, Iterator) else lambda: source
        streamed = streamed or (preload == "off" and again is not None)
        # Only training shares the samples of a sharded stream.
        self._process = process if isinstance(source, Stream) and source.sharded and mode is Mode.TRAINING else (0, 1)
        self._source = as_source(source, origin, again, streamed=streamed, process=self._process)
        self._again, self._limit = again, limit
        if self._source is not None:
            self._source = self._limited(self._source)
        self._given = source if limit is None or self._source is not None else first_samples(source, limit)
        self._seed = seed
        self._preload = preload
        self._preload_bytes = preload_bytes
        self._declared = specs
        self._padding = dict(padding or {})
        self._skip = on_error == "skip"
        self._skipped = SkippedSamples(origin)
        self.workers = workers if isinstance(workers, WorkerPool) else WorkerPool(workers)
        self._shares_workers = isinstance(workers, WorkerPool)
        self._dataset: Dataset | None = None
        self._wants_fingerprint = False
        self._fingerprint: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset())

    def dataset(self) -> Dataset:
        """Return the processed samples, made on the first call.

        Raises:
            DataError: there is no sample, or one cannot be used.
            ScenarioError: a processor is invalid.
        """
        if self._dataset is None:
            self._dataset = self._made()
            # An iterator can be read only once, and processed samples replace the given ones.
            self._given = self._again = None
        return self._dataset

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the samples before processing; see `aipcore.data.fingerprint`.

        Call it before any other method: samples are not kept before processing.
        """
        self._wants_fingerprint = True
        self.dataset()
        assert self._fingerprint is not None
        return self._fingerprint

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return one processed sample as seen on its visit in an epoch.

        Raises:
            DataError: the sample cannot be used, even if such samples are skipped elsewhere.
        """
        return self.dataset().sample(index, epoch)

    def samples(self, epoch: int = 0) -> Iterator[Sample]:
        """Yield the processed samples of an epoch in the order of the source. Unusable samples are left out.

        Raises:
            DataError: a sample cannot be used and is not to be skipped.
        """
        for index in range(len(self)):
            try:
                yield self.sample(index, epoch)
            except SampleError as error:
                if not self._skip:
                    raise
                self._skipped.add([str(error)])

    def loader(
        self,
        batch_size: int,
        *,
        samples: int | None = None,
        shuffle: bool = False,
        bucket_window: int = 0,
        drop_remainder: bool = False,
    ) -> DataLoader:
        """Return a loader of batches of the processed samples.

        Args:
            batch_size: samples in a batch.
            samples: samples in an epoch; by default all.
            shuffle: True for a new random order on each pass.
            bucket_window: number of batches within which samples are sorted by length to reduce padding; 0: no sorting.
            drop_remainder: True to leave out a smaller last batch of an epoch.

        Raises:
            DataError: an epoch has no batch.
        """
        dataset = self.dataset()
        if isinstance(dataset, StreamDataset):
            batch_size = _own_batch_size(dataset, batch_size, samples, drop_remainder=drop_remainder)
        samples = samples or len(dataset)
        dropped = samples % batch_size if drop_remainder else 0
        if dropped == samples:
            raise DataError(
                f"An epoch of {self.origin} has {names.count(samples, 'sample')}, fewer than one batch of "
                f"{batch_size:,}, so --train.batch_drop_remainder drops all of them. Use more samples or "
                "a smaller --train.batch_size."
            )
        batching = Batching(samples=samples - dropped, batch_size=batch_size, dropped=dropped)
        buckets = None
        if bucket_window:
            buckets = Buckets(lengths=dataset.lengths(), batch_size=batch_size, window=bucket_window)
        if isinstance(dataset, StreamDataset):
            dataset.begin(samples, batch_size, shuffle=shuffle)
            return DataLoader(dataset, SequentialOrder(self._process[1]), batching)
        order = SampleOrder(len(dataset), seed=self._seed, shuffle=shuffle, buckets=buckets)
        return DataLoader(dataset, order, batching)

    def describe(self) -> str:
        """Return a description of the processors, the cached part and the workers; empty without processors."""
        dataset = self.dataset()
        if isinstance(dataset, StreamDataset):
            part = [*self.processors.generating, *self.processors.deterministic, *self.processors.random]
            return f"{_names(part)} in each epoch {dataset.choice().reason}" if part else ""
        again: Part = []
        if isinstance(dataset, ParallelDataset):
            samples = dataset.dataset.samples
            generated = isinstance(samples.source, GeneratedSamples)
            again = [*self.processors.generating, *samples.part] if generated else samples.part
        once = [*self.processors.generating, *self.processors.deterministic, *self.processors.random]
        once = once[: len(once) - len(again)]
        parts = [f"{_names(once)} once, kept in memory"] if once else []
        if again:
            parts.append(f"{_names(again)} in each epoch")
        elif isinstance(dataset, ParallelDataset):
            parts.append("samples are read in each epoch")
        if isinstance(dataset, ParallelDataset):
            parts[-1] += f" {dataset.choice().reason}"
        return "; ".join(parts)

    def skipped(self) -> str | None:
        """Return a sentence about the samples skipped since the last call, or None."""
        notes = self._dataset.notes() if isinstance(self._dataset, StreamDataset) else []
        return " ".join([*notes, *filter(None, [self._skipped.report()])]) or None

    def close(self) -> None:
        """Stop the worker processes, unless they are shared. The pipeline can be used again."""
        if not self._shares_workers:
            self.workers.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self) -> Dataset:
        processors, given = self.processors, self._given
        if self._source is not None:
            return self._streamed(self._source)
        # Unprocessed samples are stacked as they are read, so that they are in memory only once.
        memory = isinstance(given, MemoryDataset) or is_arrays(given) or not (processors.processes or is_indexed(given))
        if self._again is not None and self._preload == "auto" and is_unsized(given):
            given = within(given, self._preload_bytes)
        skipped = self._skipped if self._skip else None
        try:
            source = (
                as_dataset(given, self.origin, self._convert, weighted=processors.weighted, skipped=skipped)
                if memory
                else as_samples(given, self.origin, self._convert, skipped)
            )
        except TooLargeError:
            assert self._again is not None
            return self._streamed(self._limited(IterableSource(Stream(self._again), self.origin)))
        if self._select is not None:
            source = selected(source, self._select(source, self.origin))
        if self._wants_fingerprint:
            self._fingerprint = fingerprint(source)
        if isinstance(source, MemoryDataset) and not processors.processes:
            return self._finished(source)
        cached = None
        if self._preload != "off" and (
            processors.generating or processors.deterministic or isinstance(source, IndexedSamples)
        ):
            limit = None if self._preload == "on" else self._preload_bytes
            cached = cache(source, processors, skipped, limit, self.workers)
        if cached is not None:
            samples, source_indices = cached
            if processors.random and not of_batches(processors.random):
                return self._processed(samples, processors.random, source_indices)
            columns = stack(samples.samples, self.origin, source_indices.tolist())
            if not processors.random:
                return self._finished(columns)
            return self._processed(columns if columns.uniform else samples, processors.random, source_indices)
        part = [*processors.deterministic, *processors.random]
        if processors.generating:
            source_indices = count_generated(source, processors, skipped, self.workers)
            return self._processed(GeneratedSamples(source, processors, source_indices), part, source_indices)
        return self._processed(source, part)

    def _limited(self, source: Source) -> Source:
        return source if self._limit is None else source.first(self._limit)

    def _streamed(self, source: Source) -> StreamDataset:
        if self._select is not None:
            raise DataError(
                f"{self.origin} is a stream, which cannot be divided into folds. Return samples by index for "
                "--trainer.folds: arrays, a list, or an object with __len__ and __getitem__."
            )
        dataset = StreamDataset(
            source,
            self.processors,
            self._finished,
            convert=self._convert,
            workers=self.workers,
            skipped=self._skipped if self._skip else None,
            window=self._window,
            mode=self.mode,
            process=self._process,
        )
        if self._wants_fingerprint:
            self._fingerprint = fingerprint(SampleList(dataset.raw)) | {"size": dataset.length}
        return dataset

    def _finished(self, dataset: MemoryDataset) -> MemoryDataset:
        found = dataset.specs()
        declared = self._declared
        if declared is not None and self.mode in (Mode.PREDICTION, Mode.TARGETS):
            # A side that is missing in this mode needs no specs.
            declared = (declared[0] if found[0] else {}, declared[1] if found[1] else {}, found[2])
        return with_specs(dataset, declared, self._sides_of_padding(found), self.origin)

    def _processed(self, source: Samples, part: Part, source_indices: Indices | None = None) -> ParallelDataset:
        samples = ProcessedSamples(
            source=source, processors=self.processors, part=part, source_indices=source_indices, skips=self._skip
        )
        first, probed = map(self._finished, probe(samples))
        bare = (probed.inputs.bare, probed.targets.bare, probed.weights.bare)
        layout = Layout(probed.specs(), bare, probed.padding, self.origin)
        dataset = ProcessedDataset(samples=samples, layout=layout, first=first)
        dataset.check_vectorized()
        return ParallelDataset(dataset, self.workers, self._skipped if self._skip else None)

    def _sides_of_padding(self, specs: Specs) -> Padding:
        # Weights are padded with 0: padding does not count.
        sides = list(zip(SIDES[:2], specs[:2], strict=True))
        inputs, targets = (
            {name: self._padding[name or side] for name in columns if (name or side) in self._padding}
            for side, columns in sides
        )
        names = {name or side for side, columns in sides for name in columns}
        unknown = self._padding.keys() - names
        if unknown and self.mode in (Mode.TRAINING, Mode.EVALUATION):
            raise DataError(
                f"There is a padding value for {', '.join(map(repr, sorted(unknown)))}, but {self.origin} has "
                f"{', '.join(map(repr, sorted(names)))}. Name an input or a target, or use 'inputs' or 'targets' for "
                "a single array."
            )
        return inputs, targets, {}


def _own_batch_size(dataset: StreamDataset, wanted: int, samples: int | None, *, drop_remainder: bool) -> int:
    """Return the size of the batches of a stream: its own, if it has batches.

    Raises:
        DataError: another size is wanted, an epoch would divide a batch, or smaller batches are to be dropped.
    """
    size, origin = dataset.batch_size, dataset.origin
    if size is None or not dataset.nominal:
        return wanted
    if wanted not in (size, DEFAULT_BATCH_SIZE):
        raise DataError(
            f"{origin} yields batches of {size}, but train.batch_size is {wanted}. Leave the option out to use these "
            "batches, or return samples, e.g. with unbatch()."
        )
    if drop_remainder:
        raise DataError(
            f"{origin} yields batches, so --train.batch_drop_remainder cannot be used. Leave the option out, and drop "
            "smaller batches in the data, e.g. with batch(n, drop_remainder=True)."
        )
    if samples is not None and samples % size:
        raise DataError(
            f"An epoch of {names.count(samples, 'sample')} is not a whole number of the batches of {size} that "
            f"{origin} yields. Set --trainer.samples_per_epoch to a multiple of {size}."
        )
    return size


def _names(part: Part) -> str:
    return ", ".join(processor.name for _, processor in part)
