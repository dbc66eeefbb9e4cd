"""The batches of an epoch in chunks: cut, copied to the device in advance, and trained on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import attrs

from aipcore.data.batching import Batching
from aipcore.data.loader import Block, DataLoader, Prefetcher
from aipcore.data.padding_sizes import Size
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.training.engine.compilation import Compilation, xla_room
from aipcore.training.engine.learning_rate import last_rate
from aipcore.training.engine.phases import RatePhases
from aipcore.training.engine.step_log import ROWS, StepValues
from aipcore.training.engine.train_step import TrainingLoop
from aipcore.training.steps import Steps
from aipcore.training.tensorboard.profiler import BatchProfiler


@attrs.frozen(kw_only=True)
class Chunk:
    """A trained chunk.

    Attributes:
        block: its batches.
        logs: losses and metrics of the epoch so far.
        logged: the values of its logged updates.
    """

    block: Block
    logs: dict[str, float]
    logged: list[StepValues]


class ChunkLoop:
    """The compiled loop over the chunks of an epoch. A chunk is the batches of one call of the compiled function.

    Args:
        engine: its `loop` trains on a chunk; it also has the `loader` of the batches, the training `metrics`, and the
            `phases`, none of which begins within a chunk.
        profiler: cuts chunks where it traces.
        batching: the division of an epoch into batches.
        steps: the optimizer updates of an epoch, and those at which a chunk ends.
        across: True if the first chunk of the next epoch may be prepared during the current one.
        check: receives the first loss and its number of batches; None for no check.

    Attributes:
        chunk: the most batches in a chunk.
    """

    _prefetcher: Prefetcher | None = None
    _before = 0
    _sizes: Sequence[Size] = ()

    def __init__(
        self,
        engine: Any,
        profiler: BatchProfiler,
        batching: Batching,
        *,
        steps: Steps,
        across: bool,
        check: Callable[[float, int], object] | None,
    ) -> None:
        self.chunk = 1
        self._loop: TrainingLoop = engine.loop
        self._loader: DataLoader = engine.loader
        self._metrics: ReplicaMetrics = engine.metrics
        self._phases: RatePhases = engine.phases
        self._exchange = engine.distribution.processes.exchange
        self._profiler = profiler
        self._batching, self._steps, self._check = batching, steps, check
        self._across = across

    def use(self, compilation: Compilation, chunk: int) -> None:
        """Train with a compilation, and at most `chunk` batches in a chunk."""
        self._loop.compiled, self._sizes, self.chunk = compilation.mode, compilation.sizes, chunk

    def epoch(
        self, epoch: int, first: int, completed: int, begin: Callable[[int], object]
    ) -> Generator[Chunk, None, None]:
        """Train on the chunks of an epoch.

        Args:
            epoch: counted from 0.
            first: the first batch to train on.
            completed: the updates of the run before that batch.
            begin: called before each chunk with its first batch.

        Yields:
            Each chunk.
        """
        self._before = completed - epoch * self._steps.per_epoch - self._steps.completed(first)
        if self._prefetcher is None:
            epochs = self._steps.last_epoch(self._before)
            self._prefetcher = Prefetcher(self.blocks, self._prepared, epochs=epochs, across=self._across)
        log = self._loop.step_log
        with closing(self._prefetcher.epoch(epoch, first)) as blocks:
            for block, prepared in map(self._completed_copy, blocks):
                begin(block.first)
                updates, ends = self._logged(epoch, block)
                if log is not None:
                    log.expect(updates, ends)
                with self._profiler.around(epoch, block) as traced:
                    self._loop.run(prepared, fixed=block.fixed, single=traced)
                    logs = self._metrics.result()
                if epoch == 0 and block.first == 0 and self._check is not None:
                    self._check(logs["loss"], block.steps)
                if log is not None:
                    logged = log.read()
                elif updates:
                    # The chunk ends at its only logged update.
                    rates = {each.rate_name: last_rate(each.optimizer) for each in self._loop.trained}
                    logged = [StepValues(step=n, logs={**logs, **rates}) for n in updates]
                else:
                    logged = []
                yield Chunk(block=block, logs=logs, logged=logged)

    def blocks(self, epoch: int, first: int) -> Generator[Block, None, None]:
        """Yield the chunks of an epoch, starting at a batch, not yet on the device."""
        room = xla_room(self._loader, self.chunk) if self._loop.compiled == "xla" else 0
        completed, chunk = self._completed(epoch), self.chunk
        if self._steps.log is not None:
            chunk = min(chunk, (ROWS - 1) * self._steps.log * self._steps.accumulate_steps)
        ends = [*self._steps.ends(completed, log=self._loop.step_log is None), *self._profiler.ends(epoch)]
        ends += self._phases.ends(epoch)
        sizes = self._sizes
        with closing(self._loader.blocks(epoch, chunk=chunk, first=first, room=room, ends=ends, sizes=sizes)) as blocks:
            for block in blocks:
                if block.first >= self._steps.end(completed):
                    return
                yield block

    def close(self) -> None:
        """Stop the preparation of chunks."""
        if self._prefetcher is not None:
            self._prefetcher.close()

    def _completed(self, epoch: int) -> int:
        """Return the updates of the run before an epoch."""
        return self._before + epoch * self._steps.per_epoch

    def _logged(self, epoch: int, block: Block) -> tuple[list[int], list[int]]:
        """Return the logged updates of a chunk, and the batches of the chunk after which they are completed."""
        steps, before = self._steps, self._completed(epoch)
        first, last = steps.completed(block.first), steps.completed(block.first + block.steps)
        updates = list(steps.due(steps.log, before + first, before + last))
        return updates, [steps.batch_of(update - before) - block.first for update in updates]

    def _prepared(self, block: Block) -> tuple[Block, Any]:
        """Return a block and its copy on the device, or None if its size must be exchanged first."""
        if self._loader.share is not None and self._loader.pads_shares:
            return block, None
        return self._copied(block)

    def _completed_copy(self, prepared: tuple[Block, Any]) -> tuple[Block, Any]:
        """Complete the result of `_prepared` in the main thread, the only one that exchanges values with processes."""
        block, copy = prepared
        return prepared if copy is not None else self._copied(self._loader.padded_alike(block, self._exchange))

    def _copied(self, block: Block) -> tuple[Block, Any]:
        numbers, group = range(block.first + 1, block.first + block.steps + 1), self._steps.accumulate_steps
        prepared = self._loop.prepare(block, [n % group == 0 or n == self._batching.steps for n in numbers])
        # The device has copies, so the originals need not be kept.
        return attrs.evolve(block, inputs={}, targets={}, meta=None), prepared
