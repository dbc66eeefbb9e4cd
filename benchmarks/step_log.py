"""Cost of values logged by update, relative to calls of the compiled loop without them.

The network of train_step.py (60,000 images, batch 16, Dense 128 and Dense 10), 1000 steps per call, under XLA. A call
includes the end of the chunk: reading the metrics and writing the points to TensorBoard. Calls of all variants take
turns in one process, so that all see the same machine noise.

    python benchmarks/step_log.py [--calls 100] [--every 10 50]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import train_step
from peers import machine

from aipcore.training.reporter import Reporter
from aipcore.training.tensorboard.events import TRAIN_STEPS, EventWriter

STEPS = 1000
LIMIT = 1.02
"""The maximum cost of logging every 50 updates."""


class Variant:
    """A training loop with values logged every `every` updates, 0 for never."""

    def __init__(self, every: int, events: EventWriter) -> None:
        self.every, self._events = every, events
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        more = {"trainer.jit_compile": "on", "trainer.skip_sanity_check": True}
        self._trainer = train_step.make_trainer(
            Reporter(), 1, more | ({"trainer.log_every_steps": every} if every else {})
        )
        self._trainer.engine.loop.compiled = self._trainer.compile().mode
        self._chunks = self._trainer._chunks
        self._chunks.chunk = STEPS
        self._block, self._prepared = self._chunks._prepared(next(self._chunks.blocks(0, 0)))

    def call(self) -> None:
        """Train one chunk."""
        engine = self._trainer.engine
        begun, begun_cpu = time.perf_counter(), time.process_time()
        if engine.loop.step_log is not None:
            engine.loop.step_log.expect(*self._chunks._logged(0, self._block))
        engine.loop.run(self._prepared, fixed=True)
        engine.metrics.result()
        if engine.loop.step_log is not None:
            self._events.write_points(TRAIN_STEPS, [(each.step, each.logs) for each in engine.loop.step_log.read()])
        self.seconds.append(time.perf_counter() - begun)
        self.cpu_seconds.append(time.process_time() - begun_cpu)

    @property
    def typical(self) -> tuple[float, float]:
        """The seconds of the tenth part of fastest calls, and the median of the CPU seconds."""
        return statistics.quantiles(self.seconds, n=10)[0], statistics.median(self.cpu_seconds)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100, help="calls of each variant (default: %(default)s)")
    parser.add_argument("--every", type=int, nargs="+", default=[10, 50], help="updates between logged values")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        events = EventWriter(Path(folder))
        # Two equal variants without logging show the noise.
        variants = [Variant(every, events) for every in (0, 0, *arguments.every)]
        for _ in range(arguments.calls):
            for variant in variants:
                variant.call()
        events.close()
    plain, *others = variants
    print(f"{'call without logging':<32} {plain.typical[0]:7.3f} s, {plain.typical[1]:7.3f} s of CPU time")
    for variant in others:
        what = f"--trainer.log_every_steps {variant.every}" if variant.every else "the same again (noise)"
        wall, cpu = (ours / theirs for ours, theirs in zip(variant.typical, plain.typical, strict=True))
        limit = f" (limit {LIMIT})" if variant.every == 50 else ""
        print(f"{what:<32} {wall:7.3f} times, {cpu:7.3f} times{limit}")


if __name__ == "__main__":
    main()
