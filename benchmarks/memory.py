"""Memory of a long run, of many runs in one process, and of data with and without worker processes.

The first part trains the tutorial for 200 epochs with EMA of the weights, validation, checkpoints and TensorBoard. It
compares the memory of the process after epoch 20 and at the end. The second part trains it 22 times in one process, and
compares the memory after the second and after the last run. The third part reads an augmented array of 1 GiB, with and
without worker processes, and compares the peaks of the total memory. Memory is the proportional set size, which counts
shared pages once.

    python benchmarks/memory.py
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from peers import machine

FLAT, GROWTH, WORKERS = 1.05, 5 * 2**20, 1.2
EPOCHS, SETTLED = 200, 20
RUNS = 20
DATA_BYTES = 2**30


def held(pid: int | str = "self") -> int:
    """Return the proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("no Pss in smaps_rollup")


def long_run() -> None:
    """Print the memory of the process after few and after many epochs."""
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aip_plugins.scenarios.tutorial.scenario import Tutorial

    import aipcore as aip
    from aipcore.training.reporter import EpochReport, Reporter

    sizes: dict[int, int] = {}

    class Sizes(Reporter):
        def epoch_ended(self, report: EpochReport) -> None:
            if report.epoch in (SETTLED, EPOCHS):
                gc.collect()
                sizes[report.epoch] = held()

    params = {"trainer.epochs": EPOCHS, "trainer.calc_ema": 0.99, "trainer.random_seed": 1}
    with tempfile.TemporaryDirectory() as folder:
        aip.train(Tutorial, params, folder, reporter=Sizes())
    ratio = sizes[EPOCHS] / sizes[SETTLED]
    print(
        f"after epoch {SETTLED} {sizes[SETTLED] / 2**20:.0f} MiB, after epoch {EPOCHS} {sizes[EPOCHS] / 2**20:.0f} MiB"
    )
    print(f"{'met' if ratio <= FLAT else 'NOT met'}: {ratio:.3f} times (limit {FLAT})")


def several_runs() -> None:
    """Print the memory of the process after its second run, and after many more."""
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aip_plugins.scenarios.tutorial.scenario import Tutorial

    import aipcore as aip

    sizes = []
    params = {"trainer.epochs": 2, "trainer.calc_ema": 0.99, "trainer.lav_every_n": 1, "trainer.random_seed": 1}
    for _ in range(2 + RUNS):
        with tempfile.TemporaryDirectory() as folder:
            aip.train(Tutorial, params, folder, quiet=True)
        gc.collect()
        sizes.append(held())
    growth = sizes[-1] - sizes[1]
    print(f"after 2 runs {sizes[1] / 2**20:.1f} MiB, after {RUNS} more {sizes[-1] / 2**20:.1f} MiB")
    print(f"{'met' if growth <= GROWTH else 'NOT met'}: {growth / 2**20:.1f} MiB more (limit {GROWTH / 2**20:g} MiB)")


@contextmanager
def watched(peak: list[int], workers: Any) -> Iterator[None]:
    """Append the largest memory of this process and its workers to `peak`."""
    ended = threading.Event()

    def watch() -> None:
        largest = 0
        while not ended.wait(0.02):
            with suppress(OSError, RuntimeError):
                largest = max(largest, held() + sum(map(held, workers.processes())))
        peak.append(largest)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def data(workers: int) -> None:
    """Print the peak memory of this process and its workers while they read, as a multiple of the data."""
    from aipcore.data.pipeline import Pipeline
    from aipcore.scenario import RandomProcessor, Sample

    class Noise(RandomProcessor):
        def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
            return Sample(inputs=sample.inputs + rng.standard_normal(len(sample.inputs), np.float32))

    samples = DATA_BYTES // 4 // 4096
    array = np.full((samples, 4096), 0.5, np.float32)
    peak: list[int] = []
    with Pipeline((array, None), [Noise()], workers=workers) as pipeline, watched(peak, pipeline.workers):
        del array
        for block in pipeline.loader(32, shuffle=True).blocks(0, chunk=4):
            if block.first > samples // 32 // 4:
                break
    print(peak[0] / DATA_BYTES)


def main() -> None:
    """Run each part in its own process."""
    if len(sys.argv) > 1:
        _, part, *words = sys.argv
        {"long": long_run, "runs": several_runs, "data": lambda: data(int(words[0]))}[part]()
        return
    print(machine("tensorflow", "keras", "numpy"), flush=True)
    for part in ("long", "runs"):
        subprocess.run([sys.executable, __file__, part], check=True, stderr=subprocess.DEVNULL)
    times = {
        count: float(subprocess.check_output([sys.executable, __file__, "data", str(count)], stderr=subprocess.DEVNULL))
        for count in (0, 1, 2)
    }
    print(f"peak memory as a multiple of {DATA_BYTES // 2**20} MiB of data, with all programs:")
    print("  ".join(f"{workers} worker{'s' * (workers != 1)} {found:.2f} times" for workers, found in times.items()))
    ratio = times[2] / times[0]
    print(f"{'met' if ratio <= WORKERS else 'NOT met'}: {ratio:.2f} times without workers (limit {WORKERS})")


if __name__ == "__main__":
    main()
