"""Profiling traces exactly the requested batches and changes nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest

from aipcore.data.pipeline import Pipeline
from aipcore.errors import AuthorError, ParamsError
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.reporter import Reporter
from aipcore.training.tensorboard.profiler import BatchProfiler

QUICK = ("--trainer.write_checkpoints", "False", "--trainer.export_best", "False", "--trainer.export_final", "False")


class Listening(Reporter):
    """A reporter that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def steps_in(folder: Path) -> tuple[list[int], int]:
    """Return the step numbers in a trace, and the number of backward passes through the only ReLU."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (file,) = folder.glob("tensorboard/plugins/profile/*/*.xplane.pb")
    steps, gradients = [], 0
    for plane in xplane_pb2.XSpace.FromString(file.read_bytes()).planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name == "train":
                    values = {plane.stat_metadata[stat.metadata_id].name: stat.int64_value for stat in event.stats}
                    steps.append(values["step_num"])
                gradients += name.endswith(":ReluGrad")
    return sorted(steps), gradients


@pytest.mark.parametrize(("first", "last"), [(10, 16), pytest.param(1, 1, marks=pytest.mark.slow), (13, 14)])
def test_exactly_these_batches(make_trainer: Any, blobs_class: Any, first: int, last: int) -> None:
    """Epochs have 13 batches: the trace has each requested batch once, also across the end of an epoch."""
    heard = Listening()
    words = (*QUICK, "--train.batch_size", "16", "--trainer.profile", "True")
    words = (*words, "--trainer.profile_steps", str(first), str(last))
    profiled = make_trainer(blobs_class, *words, output="out", reporter=heard)
    result = profiled.fit()
    steps, gradients = steps_in(result.output_dir)
    assert steps == list(range(first, last + 1))
    assert gradients == last - first + 1
    assert result.profiled == (first, last)
    assert heard.messages == [f"Profiled batches {first} to {last}."]
    assert heard.warnings == []

    plain = make_trainer(blobs_class, *QUICK, "--train.batch_size", "16", output="plain")
    assert plain.fit().profiled is None
    assert not (plain.output_dir / "tensorboard" / "plugins").exists()
    for one, other in zip(profiled.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_plugin_shows_it(make_trainer: Any, blobs_class: Any, tensorboard: Any) -> None:
    """TensorBoard's profile plugin, if installed, lists the trace and the duration of each step."""
    pytest.importorskip("xprof", reason="needs the extra [profile]")
    words = (*QUICK, "--train.batch_size", "16", "--trainer.profile", "True", "--trainer.profile_steps", "3", "12")
    trainer = make_trainer(blobs_class, *words, output="out")
    trainer.fit()
    with tensorboard(trainer.output_dir) as address:

        def get(path: str, **query: str) -> Any:
            with urlopen(f"{address}/data/plugin/profile/{path}?{urlencode(query)}", timeout=60) as answer:
                content = answer.read()
                return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)

        (run,) = get("runs")
        assert {"overview_page", "trace_viewer@"} <= set(get("run_tools", run=run))
        (host,) = get("hosts", run=run, tag="overview_page")
        overview = get("data", run=run, tag="overview_page", host=host["hostname"])
        (steps,) = [table["rows"] for table in overview if "steptime_ms_average" in table.get("p", {})]
        # The plugin omits the first and the last step, which may be incomplete.
        assert [row["c"][0]["v"] for row in steps] == [f"train {number}" for number in range(4, 12)]


@pytest.mark.slow
def test_run_that_ends_too_early(make_trainer: Any, blobs_class: Any) -> None:
    """A run that ends before the first step to trace warns at its start; one that ends within has a partial trace."""
    heard = Listening()
    words = (*QUICK, "--train.batch_size", "16", "--trainer.profile", "True", "--trainer.profile_steps")
    result = make_trainer(blobs_class, *words, "27", "30", output="short", reporter=heard).fit()
    assert result.profiled is None
    assert heard.warnings == [
        "Nothing was profiled. trainer.profile_steps is 27 30, but the run has only 26 batches. Choose earlier batches."
    ]
    assert not (result.output_dir / "tensorboard" / "plugins").exists()

    result = make_trainer(blobs_class, *words, "25", "30", output="within").fit()
    assert result.profiled == (25, 26)
    assert steps_in(result.output_dir)[0] == [25, 26]


@pytest.mark.slow
def test_resuming_past_the_steps(make_trainer: Any, blobs_class: Any) -> None:
    """A run resumed after the first batch to trace has no trace and no warning."""
    heard = Listening()
    first = make_trainer(blobs_class, "--train.batch_size", "16", "--trainer.epochs", "1", output="first")
    first.fit()
    words = ("--train.batch_size", "16", "--trainer.profile", "True", "--trainer.profile_steps", "10", "20")
    second = make_trainer(blobs_class, *words, output="second", reporter=heard)
    checkpoint = newest_checkpoint(first.output_dir / "checkpoint")
    second.restore(checkpoint)
    assert second.fit().profiled is None
    assert heard.warnings == []
    assert not (second.output_dir / "tensorboard" / "plugins").exists()


@pytest.mark.slow
def test_trace_ends_with_an_error(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """A run that fails within the traced batches stops the profiler, so that the next run can be profiled."""
    words = (*QUICK, "--train.batch_size", "16", "--trainer.profile", "True", "--trainer.profile_steps", "2", "90")

    class Failing(Listening):
        def progress(self, step: int, samples: int, logs: Any) -> None:
            if step == 3:
                raise RuntimeError("stop here")

    with refused(AuthorError):
        make_trainer(blobs_class, *words, output="failed", reporter=Failing()).fit()
    assert make_trainer(blobs_class, *words, output="next").fit().profiled == (2, 26)


@pytest.mark.parametrize("given", [("20", "10"), ("0", "3"), ("5",), ("1", "2", "3"), ("a", "b")])
def test_steps_that_are_none(make_trainer: Any, blobs_class: Any, given: tuple[str, ...], refused: Any) -> None:
    """The steps must be two positive numbers in order."""
    with refused(ParamsError):
        make_trainer(blobs_class, "--trainer.profile_steps", *given)


@pytest.mark.parametrize("room", [5, 0])
def test_cut_blocks_hold_the_same_batches(room: int) -> None:
    """Batches 4 to 6 of the second epoch come singly, all others together, and padded blocks keep their size."""
    rows = np.arange(21 * 3).reshape(21, 3)
    loader = Pipeline((rows, rows[:, 0])).loader(2)
    profiler = BatchProfiler(Path("unused"), (15, 17), 11, Reporter())
    ends = [list(profiler.ends(epoch)) for epoch in (0, 1)]
    assert ends[1] == [3, 4, 5, 6]
    plain, cut = (list(loader.blocks(0, chunk=5, room=room, ends=each)) for each in ends)
    assert [(block.first, block.steps) for block in plain] == [(0, 5), (5, 5), (10, 1)]
    assert [(block.first, block.steps) for block in cut] == [(0, 3), (3, 1), (4, 1), (5, 1), (6, 4), (10, 1)]
    for block in cut:
        (x,) = block.inputs.values()
        count = block.steps * block.batch_size
        np.testing.assert_array_equal(x[: block.steps].reshape(count, 3), rows[2 * block.first :][:count])
        assert len(x) == (room if room and block.batch_size == 2 else block.steps)
