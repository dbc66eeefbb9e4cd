"""The batches of an epoch in chunks: cut, copied to the device in advance, and trained on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import attrs

from aipcore.data.batching import Batching
from aipcore.data.loader import Block, DataLoader, Prefetcher, cut_blocks
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.training.engine.compilation import xla_room
from aipcore.training.engine.phases import RatePhases
from aipcore.training.engine.train_step import TrainingLoop
from aipcore.training.tensorboard.profiler import BatchProfiler


class ChunkLoop:
    """The compiled loop over the chunks of an epoch. A chunk is the batches of one call of the compiled function.

    Args:
        engine: its `loop` trains on a chunk; it also has the `loader` of the batches, the training `metrics`, and the
            `phases`, none of which begins within a chunk.
        profiler: cuts chunks where it traces.
        batching: the division of an epoch into batches.
        accumulate_steps: batches per optimizer update.
        epochs: epochs of the run.
        across: True if the first chunk of the next epoch may be prepared during the current one.
        check: receives the first loss and its number of batches; None for no check.

    Attributes:
        chunk: the most batches in a chunk.
    """

    def __init__(
        self,
        engine: Any,
        profiler: BatchProfiler,
        batching: Batching,
        *,
        accumulate_steps: int,
        epochs: int,
        across: bool,
        check: Callable[[float, int], object] | None,
    ) -> None:
        self.chunk = 1
        self._loop: TrainingLoop = engine.loop
        self._loader: DataLoader = engine.loader
        self._metrics: ReplicaMetrics = engine.metrics
        self._phases: RatePhases = engine.phases
        self._profiler = profiler
        self._batching, self._group, self._check = batching, accumulate_steps, check
        self._prefetcher = Prefetcher(self.blocks, self._prepared, epochs=epochs, across=across)

    def epoch(
        self, epoch: int, first: int, begin: Callable[[int], object]
    ) -> Generator[tuple[Block, dict[str, float]], None, None]:
        """Train on the chunks of an epoch.

        Args:
            epoch: counted from 0.
            first: the first batch to train on.
            begin: called before each chunk with its first batch.

        Yields:
            Each chunk, and the losses and metrics of the epoch so far.
        """
        with closing(self._prefetcher.epoch(epoch, first)) as blocks:
            for block, prepared in blocks:
                begin(block.first)
                with self._profiler.around(epoch, block) as traced:
                    self._loop.run(prepared, full=block.batch_size == self._batching.batch_size, single=traced)
                    logs = self._metrics.result()
                if epoch == 0 and block.first == 0 and self._check is not None:
                    self._check(logs["loss"], block.steps)
                yield block, logs

    def blocks(self, epoch: int, first: int) -> Iterator[Block]:
        """Return the chunks of an epoch, starting at a batch, not yet on the device."""
        room = xla_room(self._loader, self.chunk) if self._loop.compiled == "xla" else 0
        blocks = self._loader.blocks(epoch, chunk=self.chunk, first=first, room=room)
        phases = cut_blocks(blocks, self._phases.ends(epoch), pad=room > 0)
        return self._profiler.cut(phases, epoch, pad=room > 0)

    def close(self) -> None:
        """Stop the preparation of chunks."""
        self._prefetcher.close()

    def _prepared(self, block: Block) -> tuple[Block, Any]:
        numbers = range(block.first + 1, block.first + block.steps + 1)
        prepared = self._loop.prepare(block, [n % self._group == 0 or n == self._batching.steps for n in numbers])
        # The device has copies, so the originals need not be kept.
        return attrs.evolve(block, inputs={}, targets={}, meta=None), prepared
