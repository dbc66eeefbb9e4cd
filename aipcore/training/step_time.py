"""How many samples a second the model of a run can take."""

from __future__ import annotations

import time
from contextlib import closing

from aipcore.training.trainer import Trainer


def samples_per_second(trainer: Trainer, *, seconds: float = 2.0) -> float:
    """Trains on the same batches again and again, and leaves the state of the run as it was.

    Args:
        trainer: a run that has not begun.
        seconds: for how long.

    Raises:
        TrainingError: the model cannot be compiled as asked.
    """
    state = trainer.state.read()
    compilation = trainer.compile()
    trainer.loop.compiled = compilation.mode
    with closing(trainer.feed.blocks(0, chunk=compilation.chunk)) as blocks:
        block = next(blocks)
    full = block.batch_size == trainer.batching.batch_size

    def once() -> None:
        trainer.loop.run(trainer.loop.prepare(block, [True] * block.steps), full=full, single=False)
        # Reading a number waits for what the device is still doing.
        trainer.metrics.result()

    try:
        once()
        count, begun = 0, time.perf_counter()
        while not count or time.perf_counter() - begun < seconds:
            once()
            count += 1
        return count * block.steps * block.batch_size / (time.perf_counter() - begun)
    finally:
        trainer.state.write(state)
