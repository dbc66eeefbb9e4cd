"""Measurement of the samples per second of a run's model."""

from __future__ import annotations

import time
from contextlib import closing

from aipcore.training.engine.compilation import Compilation
from aipcore.training.setup import Engine
from aipcore.training.variables import VariableState


def samples_per_second(
    model: Engine, variables: VariableState, compilation: Compilation, *, seconds: float = 2.0
) -> float:
    """Train repeatedly on the same batches, then restore the state of the run.

    Args:
        model: the model of a run that has not started.
        variables: the variables of the run.
        compilation: the compilation of its loop.
        seconds: duration of the measurement.
    """
    state = variables.read()
    loop, loader = model.loop, model.loader
    loop.compiled = compilation.mode
    with closing(loader.blocks(0, chunk=compilation.chunk, sizes=compilation.sizes)) as blocks:
        block = next(blocks)

    def once() -> None:
        loop.run(loop.prepare(block, [True] * block.steps), fixed=block.fixed, single=False)
        # Reading a value waits for pending work on the device.
        model.metrics.result()

    try:
        once()
        count, begun = 0, time.perf_counter()
        while not count or time.perf_counter() - begun < seconds:
            once()
            count += 1
        return count * block.steps * block.batch_size / (time.perf_counter() - begun)
    finally:
        variables.write(state)
