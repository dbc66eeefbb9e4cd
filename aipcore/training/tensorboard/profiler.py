"""Traces of some batches of a run for TensorBoard's profile plugin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType

import tensorflow as tf

from aipcore.data.loader import Block, cut_blocks
from aipcore.errors import TrainingError
from aipcore.params.names import count
from aipcore.training.reporter import Reporter


class BatchProfiler:
    """A profiler of the batches `first` to `last` of a run, both included.

    As a context manager, it ends the trace however the run ends.

    Args:
        folder: the folder of the run's event files; None to trace nothing.
        steps: the first and the last batch to trace, counted over the run from 1.
        epoch_steps: batches in an epoch.
        reporter: receives the traced batches, or the reason why nothing was traced.
    """

    def __init__(self, folder: Path | None, steps: tuple[int, int], epoch_steps: int, reporter: Reporter) -> None:
        self._folder = folder
        self._first, self._last = steps
        self._epoch_steps = epoch_steps
        self._reporter = reporter
        self._traced: int | None = None
        self._running = False
        self._awaited = False

    @property
    def traced(self) -> tuple[int, int] | None:
        """The first and the last batch of the trace; None without a trace."""
        return None if self._traced is None else (self._first, self._traced)

    def begin(self, batch: int, batches: int) -> None:
        """Start at the given batch of a run with `batches` batches in total; both are counted over the run from 1."""
        self._awaited = self._folder is not None and batch <= self._first <= batches
        if self._folder is not None and self._first > batches:
            self._miss(batches)

    def cut(self, blocks: Iterable[Block], epoch: int, *, pad: bool) -> Iterator[Block]:
        """Cut the blocks of an epoch so that each traced batch is a separate block.

        The plugin shows times by step, and treats each call as a step.

        Args:
            blocks: the blocks yielded by `DataLoader.blocks`.
            epoch: counted from 0.
            pad: True if blocks are padded to one size.
        """
        before = epoch * self._epoch_steps
        edges = range(0) if self._folder is None else range(self._first - 1 - before, self._last - before + 1)
        return cut_blocks(blocks, edges, pad=pad)

    def around(self, epoch: int, block: Block) -> AbstractContextManager[bool]:
        """Return a context for the computation of a block and the wait for its results. It yields True if traced."""
        if not self._awaited and not self._running:
            return nullcontext(False)
        number = epoch * self._epoch_steps + block.first + 1
        return self._traced_block(number, number + block.steps - 1)

    @contextmanager
    def _traced_block(self, first: int, last: int) -> Iterator[bool]:
        if first == self._first:
            self._start()
        if not self._running:
            yield False
            return
        # The plugin treats anything with a step number as a training step.
        with tf.profiler.experimental.Trace("train", step_num=first, _r=1):
            yield True
        self._traced = last
        if last >= self._last:
            self.close()

    def _start(self) -> None:
        try:
            tf.profiler.experimental.start(str(self._folder))
        except tf.errors.AlreadyExistsError as error:
            raise TrainingError(
                "trainer.profile is on, but another profiler is active in this process. Turn one of them off."
            ) from error
        self._awaited, self._running = False, True

    def close(self) -> None:
        """Write the trace in progress, if any."""
        if self._running:
            self._running = False
            # Saving would create the folder of a moved run again.
            save = self._traced is not None and self._folder is not None and self._folder.parent.is_dir()
            tf.profiler.experimental.stop(save=save)
            if save:
                self._reporter.message(f"Profiled batches {self._first} to {self._traced}.")

    def end(self, batches: int) -> None:
        """Finish the trace at the end of the run, after `batches` batches."""
        self.close()
        if self._awaited:
            self._awaited = False
            self._miss(batches)

    def _miss(self, batches: int) -> None:
        self._reporter.warning(
            f"Nothing was profiled. trainer.profile_steps is {self._first} {self._last}, but the run has only "
            f"{count(batches, 'batch')}. Give earlier batches."
        )

    def __enter__(self) -> BatchProfiler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
