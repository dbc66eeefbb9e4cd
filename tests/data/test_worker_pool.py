"""Worker processes: identical results, the author's errors, bounded memory, and no leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import forks
import numpy as np
import pytest

from aipcore.data import shared_memory
from aipcore.data.adapters.samples import SampleList
from aipcore.data.pickling import UnshippableError
from aipcore.data.pipeline import Pipeline
from aipcore.data.processing import SampleError
from aipcore.data.sampler import Visits
from aipcore.data.shared_memory import descriptor_of
from aipcore.data.worker_pool import WorkerPool, cores
from aipcore.data.worker_process import Area, WorkerTraceback
from aipcore.errors import DataError
from aipcore.scenario import GeneratingProcessor, Mode, Processor, RandomProcessor, Sample

SCRIPT = Path(__file__).parent / "worker_scripts.py"


class Files:
    """Samples read by index; with a folder, each read leaves a file there."""

    def __init__(self, count: int, folder: Path | None = None, broken: int = -1) -> None:
        self.count = count
        self.folder = folder
        self.broken = broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise OSError("no such file")
        if self.folder is not None:
            (self.folder / f"{index}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return Sample(inputs={"x": np.full(50, index, np.float32)}, targets={"y": np.int32(index)}, meta=f"{index}.png")


class Twice(GeneratingProcessor):
    def generate(self, sample: Sample) -> list[Sample]:
        return [sample, sample]


class Scale(Processor):
    def process(self, sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"] / 3})


class Jitter(RandomProcessor):
    modes = frozenset({Mode.TRAINING, Mode.EVALUATION})

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"] + rng.random(50, dtype=np.float32)})


class Shift(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"] + rng.random(dtype=np.float32)})


class Stretch(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"][: rng.integers(1, 50)]})


class Fussy(Processor):
    """A processor that fails on every tenth sample."""

    def process(self, sample: Sample) -> Sample:
        if sample.targets["y"] % 10 == 3:
            raise ValueError("too hard")
        return sample


class Slow(Processor):
    def process(self, sample: Sample) -> Sample:
        time.sleep(0.005)
        return sample


class Deadly(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.targets["y"] == 150:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample


class Echo:
    """A job that returns its task."""

    def __call__(self, task: Any) -> Any:
        return task


class Locked(Jitter):
    """An object that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Modules(RandomProcessor):
    """A job that reports the presence of TensorFlow."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=np.array([name in sys.modules for name in ("tensorflow", "jax", "numpy")]))


@pytest.fixture(scope="module")
def two() -> Any:
    """Two workers for several tests."""
    workers = WorkerPool(2)
    yield workers
    workers.close()


def everything(pipeline: Pipeline, epoch: int = 1, **how: Any) -> list[Any]:
    """Return all results of an epoch."""
    return [
        [block.first, block.steps, block.inputs["x"].tolist(), block.targets["y"].tolist(), block.meta]
        for block in pipeline.loader(8, shuffle=True, **how).blocks(epoch, chunk=5)
    ]


CASES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "kept": ([Scale(), Jitter()], {}, {}),
    "generated": ([Twice(), Scale(), Jitter()], {"preload": "off"}, {}),
    "skipped": ([Fussy(), Jitter()], {"preload": "off", "on_error": "skip"}, {}),
    "skipped before keeping": ([Twice(), Fussy(), Jitter()], {"on_error": "skip"}, {}),
    "drawn once": ([Twice(), Jitter(), Fussy()], {"on_error": "skip", "mode": Mode.EVALUATION}, {}),
    "of many lengths": ([Scale(), Stretch()], {"padding": {"x": -1}}, {}),
    "in buckets": ([Stretch()], {}, {"bucket_window": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_results_do_not_depend_on_workers(case: str, two: WorkerPool) -> None:
    """Results, including skipped samples, are bit-identical for 0, 1 and 2 workers."""
    processors, how, batching = CASES[case]
    with Pipeline(Files(300), processors, seed=5, workers=0, **how) as alone:
        expected = everything(alone, **batching), alone.skipped()
    pipeline = Pipeline(Files(300), processors, seed=5, workers=two, **how)
    assert (everything(pipeline, **batching), pipeline.skipped()) == expected
    if case == "kept":
        with Pipeline(Files(300), processors, seed=5, workers=1, **how) as pipeline:
            assert everything(pipeline, **batching) == expected[0]
            assert len(pipeline.workers.processes()) == 1
            assert "by 1 worker process (" in pipeline.describe()
        assert pipeline.workers.processes() == []
        assert everything(pipeline, **batching) == expected[0], "it can be used again"
        pipeline.close()


def test_two_concurrent_streams(two: WorkerPool) -> None:
    """An idle stream does not block another one, and can continue later."""
    first, second = (Pipeline(Files(1000), [Jitter()], seed=seed, workers=two) for seed in (1, 2))
    blocks = first.loader(8).blocks(0, chunk=1)
    begun = [next(blocks).inputs["x"]]
    assert len(everything(second)) > 1
    begun += [block.inputs["x"] for block in blocks]
    alone = Pipeline(Files(1000), [Jitter()], seed=1, workers=0).loader(8).blocks(0, chunk=1)
    for ours, theirs in zip(begun, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs.inputs["x"])


def test_errors_of_workers(two: WorkerPool) -> None:
    """Errors name processor and sample as usual, and include the worker's traceback."""
    pipeline = Pipeline(Files(1000, broken=777), [Fussy(), Jitter()], workers=two)
    with pytest.raises(SampleError, match=r"Processor Fussy failed on sample 3 of the source \('3.png'\): ValueError"):
        pipeline.dataset()
    pipeline = Pipeline(Files(1000, broken=777), [Jitter()], workers=two, preload="off")
    blocks = pipeline.loader(7).blocks(0, chunk=1)
    assert len(list(islice(blocks, 111))) == 111, "those before it come"
    with pytest.raises(
        SampleError, match=r"777 .* cannot be read: OSError: no such file \(.*, in __getitem__\)"
    ) as caught:
        next(blocks)
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert 'raise OSError("no such file")' in str(caught.value.__cause__)


def test_a_worker_that_dies(refused: Any) -> None:
    """The error names the death, the other workers end too, and new ones can be started."""
    with Pipeline(Files(1000), [Deadly()], workers=2) as pipeline:
        pipeline.dataset()
        loader = pipeline.loader(10)
        next(loader.blocks(0, chunk=1))
        pids = pipeline.workers.processes()
        with refused(DataError):
            list(loader.blocks(0, chunk=1))
        assert alive(pids) == []
        next(loader.blocks(0, chunk=1))
        assert len(pipeline.workers.processes()) == 2


@pytest.mark.parametrize("new_job", [False, True])
def test_workers_that_all_died_while_idle(new_job: bool, refused: Any) -> None:
    """The next task, or the next job, names the signal that ended the workers."""
    workers = WorkerPool(2)
    job = Echo()
    workers.prepare(job)
    assert list(workers.stream(job, ["a"])) == ["a"]
    for worker in workers.processes():
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.1)
    with refused(DataError):
        workers.prepare(Echo()) if new_job else list(workers.stream(job, ["b"]))
    workers.close()


def test_objects_that_cannot_be_pickled() -> None:
    """Objects that cannot be pickled are an error with explicit workers; auto uses none and gives the reason."""
    slow = Pipeline(Files(400), [Slow(), Locked()], workers=1, preload="off")
    with slow, pytest.raises(UnshippableError, match=r"cannot be pickled \(TypeError: cannot pickle '_thread.lock'"):
        slow.describe()
    with Pipeline(Files(400), [Slow(), Locked()], preload="off") as pipeline:
        assert "in each epoch in this process (The data or the processors cannot be pickled" in pipeline.describe()


def test_auto_decides_by_measuring() -> None:
    """Workers are used for slow processing, not for fast, and never more than there are cores."""
    with Pipeline(Files(400), [Slow(), Jitter()], preload="off") as pipeline:
        expected = "1 worker process" if cores() == 1 else f"{min(cores(), 16)} worker processes"
        assert f"by {expected} (" in pipeline.describe()
        assert len(pipeline.workers.processes()) == min(cores(), 16)
    with Pipeline(Files(400), [Jitter()]) as pipeline:
        assert "workers would not be faster" in pipeline.describe()
        everything(pipeline)
        assert pipeline.workers.processes() == []


def test_the_buffer_is_bounded(tmp_path: Path) -> None:
    """Without a consumer, workers make no more batches than fit in the buffer."""
    workers = WorkerPool(2, buffer_bytes=10 * 8 * 300)
    with Pipeline(Files(500, tmp_path), [Slow(), Jitter()], preload="off", workers=workers) as pipeline:
        pipeline.dataset()
        pipeline.describe()
        before = len(list(tmp_path.iterdir()))
        blocks = pipeline.loader(8).blocks(20, chunk=1)
        next(blocks)
        deadline = time.monotonic() + 30
        while workers.filled()[0] < workers.filled()[1] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        ahead = len(list(tmp_path.iterdir())) - before
        assert 8 <= ahead <= 11 * 8
        assert workers.filled()[0] == workers.filled()[1] > 0
        blocks.close()
    workers.close()


def test_workers_are_light(two: WorkerPool) -> None:
    """Workers do not have TensorFlow, even if it was imported here."""
    pipeline = Pipeline(Files(100), [Modules()], workers=two)
    block = next(pipeline.loader(100).blocks(0, chunk=1))
    assert block.inputs[""].any(axis=(0, 1)).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        np.float16(2.5),
        np.array(7),
        3,
        2.5,
        None,
        {"a": np.ones((2, 2)), "b": np.int8(4), "c": 1},
        "text",
        np.array(["a", "b"]),
    ],
)
def test_samples_in_shared_memory_are_unchanged(value: Any) -> None:
    """Dtypes and shapes are kept; arrays are views of shared memory, which are read-only."""
    samples = [Sample(inputs=value, targets=np.zeros(3), meta=n) for n in range(3)]
    area = Area.make()
    area.write(SampleList(samples))
    read = area.read(copy=False)
    sample = read[1]
    assert len(read) == 3
    assert sample.meta == 1
    assert not sample.targets.flags.writeable
    pairs = [(sample.inputs[k], value[k]) for k in value] if isinstance(value, dict) else [(sample.inputs, value)]
    for ours, theirs in pairs:
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs, strict=isinstance(theirs, np.ndarray))
    area.close()


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("used", [False, True])
def test_large_arrays_are_in_memory_once(
    two: WorkerPool, monkeypatch: pytest.MonkeyPatch, view: bool, used: bool
) -> None:
    """A large array is moved to shared memory in parts; if the author still uses it, it is copied and unchanged."""
    monkeypatch.setattr(shared_memory, "PART_BYTES", 2**16)
    tracemalloc.start()
    made = np.random.default_rng(0).random((2**15, 50), dtype=np.float32)
    expected, size = made.copy(), made.nbytes
    given = made.reshape(-1, 5, 10) if view else made
    kept = made if used else None
    with Pipeline(({"x": given}, None), [Shift()], workers=two, preload="off") as pipeline:
        del made, given
        dataset: Any = pipeline.dataset()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert "by 2 worker processes" in pipeline.describe()
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        column = dataset.dataset.samples.source.inputs.columns["x"]
        assert descriptor_of(column) is not None
        assert peak - before < size / 4
        assert (before - after > size / 2) is not used
        np.testing.assert_array_equal(column.reshape(-1, 50), expected)
        visits = Visits(indices=np.array([3, 2**15 - 1]), epochs=np.array([0, 1]))
        (batch,) = dataset.batches([visits])
        np.testing.assert_array_equal(batch.inputs["x"], dataset.batch(visits.indices, visits.epochs).inputs["x"])
    if kept is not None:
        np.testing.assert_array_equal(kept, expected)


def alive(pids: list[int]) -> list[int]:
    """Return the running processes."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [pid] if state != "Z" else []
    return found


def all_end(pids: list[int], seconds: float = 5) -> bool:
    """Return True if all end in time."""
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pids)


def start(what: str) -> tuple[forks.Forked, list[int]]:
    """Run the script; return it with its process id and those of its workers."""
    process = forks.start([sys.executable, str(SCRIPT), what])
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process, [int(word) for word in line.split()]


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("busy", signal.SIGKILL),
        ("idle", signal.SIGKILL),
        ("stuck", signal.SIGKILL),
        ("busy", signal.SIGTERM),
        ("busy", signal.SIGINT),
        ("raise", None),
        ("end", None),
    ],
)
def test_no_worker_is_left(what: str, number: signal.Signals | None) -> None:
    """No worker is left, for any end of the parent process and any activity of the workers."""
    process, pids = start(what)
    try:
        assert len(pids) == 3
        if number is not None:
            time.sleep(0.2)
            assert len(alive(pids)) == 3
            process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert all_end(pids)
        assert not list(Path("/dev/shm").glob("*aip*"))
        expected = {"raise": 1, "end": 0}.get(what, -number if number else 0)
        assert process.returncode == expected
        assert ("RuntimeError: as asked" in errors) == (what == "raise")
        assert "resource_tracker" not in errors
        assert "Worker" not in errors
    finally:
        process.kill()
        process.communicate()


def test_a_forked_child_does_not_keep_workers_alive() -> None:
    """A forked child holds the workers' pipes, but is not their parent."""
    process, pids = start("forked")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        assert all_end(pids)
        assert alive([child])
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_in_a_daemonic_process() -> None:
    """A daemonic process has no workers, and the plan reports it."""
    done = subprocess.run([sys.executable, SCRIPT, "daemon"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "Noise in each epoch in this process (a daemonic process cannot start workers) [] True\n"


def test_memory_stays_flat() -> None:
    """The memory of all processes stays flat over three epochs after the first."""
    done = subprocess.run([sys.executable, SCRIPT, "memory"], capture_output=True, text=True, check=True, timeout=100)
    sizes = [int(line) for line in done.stdout.split()]
    assert max(sizes[1:]) <= 1.05 * min(sizes[1:]), sizes
