"""Memory of a long run, and of data with and without worker processes.

The first part trains the tutorial for 200 epochs with EMA of the weights, validation, checkpoints and TensorBoard. It
compares the memory of the process after epoch 20 and at the end. The second part reads an augmented array of 256 MiB,
with and without worker processes. It compares the total memory with the size of the array. Memory is the proportional
set size, which counts shared pages once.

    python benchmarks/memory.py
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import machine

FLAT, ONCE, EACH = 1.05, 1.3, 0.1
EPOCHS, SETTLED = 200, 20
DATA_BYTES = 2**28
PROGRAM = 30 * 2**20
"""Approximate bytes of Python and NumPy in a worker process."""


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


def data(workers: int) -> None:
    """Print the memory of this process and its workers while reading, without code, as a multiple of the data."""
    from aipcore.data.pipeline import Pipeline
    from aipcore.scenario import RandomProcessor, Sample

    class Noise(RandomProcessor):
        def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
            return Sample(inputs=sample.inputs + rng.standard_normal(len(sample.inputs), np.float32))

    samples = DATA_BYTES // 4 // 4096
    array = np.full((samples, 4096), 0.5, np.float32)
    before = held() - array.nbytes
    with Pipeline((array, None), [Noise()], workers=workers) as pipeline:
        del array
        for block in pipeline.loader(32, shuffle=True).blocks(0, chunk=4):
            total = held() + sum(held(pid) - PROGRAM for pid in pipeline.workers.processes())
            if block.first > 3 * samples // 32 // 4:
                break
    print((total - before) / DATA_BYTES)


def main() -> None:
    """Run each part in its own process."""
    if len(sys.argv) > 1:
        _, part, *words = sys.argv
        long_run() if part == "long" else data(int(words[0]))
        return
    print(machine("tensorflow", "keras", "numpy"))
    subprocess.run([sys.executable, __file__, "long"], check=True, stderr=subprocess.DEVNULL)
    times = {
        count: float(subprocess.check_output([sys.executable, __file__, "data", str(count)], stderr=subprocess.DEVNULL))
        for count in (0, 1, 3)
    }
    print(f"memory as a multiple of {DATA_BYTES // 2**20} MiB of data; workers share one copy:")
    print("  ".join(f"{workers} worker{'s' * (workers != 1)} {found:.2f} times" for workers, found in times.items()))
    print(f"{'met' if times[0] <= ONCE else 'NOT met'}: {times[0]:.2f} times without workers (limit {ONCE})")
    each = (times[3] - times[1]) / 2
    print(f"{'met' if each <= EACH else 'NOT met'}: each additional worker adds {each:.2f} times (limit {EACH})")


if __name__ == "__main__":
    main()
