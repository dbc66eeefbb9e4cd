"""A plain script with workers, without the main guard that `multiprocessing` requires; run by test_worker_pool.py.

python worker_scripts.py WHAT
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import ALL_MODES, RandomProcessor
from aipcore.data.sample import Sample

SCALE = 2.0


class Noise(RandomProcessor):
    """A processor of the script, which uses a global variable of it."""

    modes = ALL_MODES

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Add scaled noise."""
        return attrs.evolve(sample, inputs=sample.inputs + SCALE * rng.random(dtype=np.float32))


class Stuck(RandomProcessor):
    """A processor that holds a worker's interpreter for ever, so that no other thread of the process runs."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Start a regular expression search that does not end."""
        if sys.argv[0] == "-c" and sample.targets > 200:
            re.match(r"(a+)+$", "a" * 60 + "b")
        return sample


def pipeline(*processors: Any, samples: int = 5000, workers: Any = 2) -> Pipeline:
    """Return a pipeline of some large samples."""
    data = np.zeros((samples, 500), np.float32), np.arange(samples)
    return Pipeline(data, processors, seed=3, workers=workers)


def memory(pids: list[int]) -> int:
    """Return the private bytes of some processes, plus their proportional part of shared ones."""
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8") for pid in pids)
    return sum(int(size) for size in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)) * 1024


def lives(what: str) -> None:
    """Print the ids of the processes, and then end in the given way."""
    made = pipeline(Stuck() if what == "stuck" else Noise())
    blocks = made.loader(16).blocks(0, chunk=1)
    next(blocks)
    print(os.getpid(), *made.workers.processes(), flush=True)
    if what == "raise":
        raise RuntimeError("as asked")
    if what == "end":
        return
    if what == "idle":
        time.sleep(60)
    for _ in range(1000):
        for _ in blocks:
            pass
        blocks = made.loader(16).blocks(0, chunk=1)


def in_a_daemon() -> None:
    """Run one epoch in a daemonic process."""
    with pipeline(Noise(), samples=100) as made:
        total = sum(float(block.inputs[""].sum()) for block in made.loader(16).blocks(0, chunk=1))
        print(made.describe(), made.workers.processes(), total > 0, flush=True)


if sys.argv[1] == "memory":
    with pipeline(Noise(), samples=8_000) as made:
        loader = made.loader(32, shuffle=True)
        for epoch in range(4):
            for _ in loader.blocks(epoch, chunk=4):
                pass
            print(memory([os.getpid(), *made.workers.processes()]), flush=True)
elif sys.argv[1] == "daemon":
    process = multiprocessing.get_context("fork").Process(target=in_a_daemon, daemon=True)
    process.start()
    process.join(60)
elif sys.argv[1] == "forked":
    # The child has copies of all pipes, so that they do not close when this process ends.
    made = pipeline(Noise())
    next(made.loader(16).blocks(0, chunk=1))
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    print(os.getpid(), *made.workers.processes(), flush=True)
    print(child, flush=True)
    signal.pause()
else:
    lives(sys.argv[1])
