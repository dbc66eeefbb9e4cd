"""Compilation of the training loop: measured or fixed mode and steps per call."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Literal

import attrs
import tensorflow as tf

from aipcore.data.device_cache import IndexDataset
from aipcore.data.loader import Block, DataLoader
from aipcore.data.strings import STRING
from aipcore.errors import TrainingError
from aipcore.scenario.model import Graph
from aipcore.training.engine.train_step import TrainingLoop
from aipcore.training.variables import VariableState

CHUNK_SECONDS = 0.2
"""Target duration of a chunk: short enough to react to Ctrl-C, long enough to hide the overhead of a call."""

CHUNK_BYTES = 16 * 2**20
"""Maximum bytes of samples in a chunk; up to four chunks are held at a time, one running and three waiting."""

WORTH_SECONDS = 5.0
"""Minimum duration of a run with the plain graph, in seconds, for an XLA compilation to pay off."""

PROBE_STEPS = 4

TRIALS = 3
"""Number of times that the plain graph and XLA are timed, in turns. The best time counts, since noise adds time."""

CLEAR = 4.0
"""Ratio of the two speeds from which one trial is enough."""

MOST_ROOM = 4096
"""Maximum batches in a block of sample indices."""

FIXED_CHUNK = 16
"""Batches in a chunk if nothing is measured, unless `CHUNK_BYTES` allows fewer."""

Jit = Literal["auto", "on", "off"]


@attrs.frozen(kw_only=True)
class Compilation:
    """The compilation of a run. It is part of the run's state, since graph and XLA differ in the last bits.

    Attributes:
        mode: "graph", "xla" or "eager".
        chunk: the most batches per call.
        reason: the reason for the choice, for the plan.
    """

    mode: Literal["graph", "xla", "eager"]
    chunk: int
    reason: str


def choose_compilation(
    loop: TrainingLoop,
    loader: DataLoader,
    state: VariableState,
    *,
    tune: Literal["auto", "off"] = "auto",
    jit_compile: Jit,
    eager: bool,
    total_steps: int,
    look: Callable[[float, int], None] | None = None,
) -> Compilation:
    """Measure the fastest way to run the loop, or apply the fixed settings. The state stays bit-identical.

    Args:
        loop: the loop, with its variables built.
        loader: the training data.
        state: all variables that a step may change.
        tune: "off" measures nothing: the plain graph, unless `jit_compile` is "on", and `FIXED_CHUNK`.
        jit_compile: the user's setting.
        eager: if True, compile nothing.
        total_steps: batches in the whole run.
        look: called with the mean loss of the trial batches, and their number; may raise.

    Raises:
        TrainingError: the model cannot be compiled as requested.
    """
    if eager:
        return Compilation(mode="eager", chunk=1, reason="trainer.force_eager")
    if not loader.dataset.uniform:
        return Compilation(mode="graph", chunk=1, reason="the samples differ in size")
    full = loader.batching.full_steps
    if full == 0:
        return Compilation(mode="graph", chunk=1, reason="an epoch is smaller than one batch")
    if loop.distribution.replicas > 1 and jit_compile == "on":
        raise TrainingError(
            "XLA cannot compile a loop over several devices. Use --trainer.jit_compile auto or --device.strategy none."
        )
    sides = loader.dataset.specs()
    strings = any(spec.dtype == STRING for side in sides for spec in side.values())
    if strings and jit_compile == "on":
        raise TrainingError("XLA cannot compile a loop over strings. Use --trainer.jit_compile auto.")
    batch_bytes = loader.batching.batch_size * sum(spec.nbytes for side in sides for spec in side.values())
    most = max(1, min(full, CHUNK_BYTES // max(1, batch_bytes)))
    if tune == "off" and jit_compile != "on":
        return Compilation(mode="graph", chunk=min(most, FIXED_CHUNK), reason="trainer.tune off")
    before = state.read()
    try:
        if tune == "off":
            # Compiled now instead of by the first chunk, while an error can still be explained.
            chunk = min(most, FIXED_CHUNK)
            _under_xla(loop, loader, chunk, must=True)
            return Compilation(mode="xla", chunk=chunk, reason="trainer.jit_compile on, trainer.tune off")
        return _measured(loop, loader, jit_compile, most, total_steps, look, strings)
    finally:
        state.write(before)


def _measured(
    loop: TrainingLoop, loader: DataLoader, jit_compile: Jit, most: int, total_steps: int,
    look: Callable[[float, int], None] | None, strings: bool,
) -> Compilation:  # fmt: skip
    probe = next(loader.blocks(0, chunk=min(PROBE_STEPS, loader.batching.full_steps)))
    _seconds(loop, probe, "graph")
    plain = _seconds(loop, probe, "graph") / probe.steps
    if look is not None:
        look(loop.metrics.result()["loss"], 2 * probe.steps)
    chunk = max(1, min(most, round(CHUNK_SECONDS / plain)))
    if loop.distribution.replicas > 1:
        return Compilation(mode="graph", chunk=chunk, reason="XLA cannot compile for several devices")
    if jit_compile == "off":
        return Compilation(mode="graph", chunk=chunk, reason="trainer.jit_compile off")
    if strings:
        return Compilation(mode="graph", chunk=chunk, reason="XLA cannot compile a loop over strings")
    if jit_compile == "auto":
        if _convolves_on_cpu(loop.graph):
            return Compilation(mode="graph", chunk=chunk, reason="XLA is slow for convolutions on a CPU")
        if plain * total_steps < WORTH_SECONDS:
            return Compilation(mode="graph", chunk=chunk, reason="the run is too short to benefit from XLA")
    block = _under_xla(loop, loader, chunk, must=jit_compile == "on")
    if block is None:
        return Compilation(mode="graph", chunk=chunk, reason="XLA cannot compile this model")
    plain, xla = _in_turns(loop, block, xla_only=jit_compile == "on")
    # If the shape compiled by XLA does not fix the number of batches, the number that fits the time is used.
    fitting = round(CHUNK_SECONDS / xla) if isinstance(loader.dataset, IndexDataset) else chunk
    fitting = max(1, min(xla_room(loader, chunk), fitting))
    if jit_compile == "on":
        return Compilation(mode="xla", chunk=fitting, reason="trainer.jit_compile on")
    if xla < plain:
        return Compilation(mode="xla", chunk=fitting, reason=f"{plain / xla:.1f} times as fast as without XLA")
    return Compilation(mode="graph", chunk=chunk, reason=f"{xla / plain:.1f} times as fast as XLA")


def xla_room(loader: DataLoader, chunk: int) -> int:
    """Return the capacity, in batches, of the blocks of the one shape that XLA is compiled for.

    For blocks of sample indices, capacity costs nothing, and any number of batches per call uses the same shape.
    """
    return min(loader.batching.full_steps, MOST_ROOM) if isinstance(loader.dataset, IndexDataset) else chunk


def _under_xla(loop: TrainingLoop, loader: DataLoader, chunk: int, *, must: bool) -> Block | None:
    """Compile the loop; return the trial block, or None if XLA cannot compile the model and does not have to."""
    room = xla_room(loader, chunk)
    block = next(loader.blocks(0, chunk=min(chunk, room), room=room))
    try:
        _seconds(loop, block, "xla")
    except tf.errors.OpError as error:
        if not must:
            return None
        raise TrainingError(f"{_xla_fault(error.message)}. Use --trainer.jit_compile auto.") from error
    return block


def _xla_fault(message: str) -> str:
    """Return the first line of an error of XLA, or its unsupported operations, without names of nodes."""
    unsupported = dict.fromkeys(re.findall(r"No registered '(\w+)' OpKernel", message))
    if unsupported:
        return f"XLA cannot compile this model, because it does not support {', '.join(unsupported)}"
    line = re.sub(r" *\{\{\w+ \S+\}\}", "", message.partition("\n")[0]).rstrip(".")
    return f"XLA cannot compile this model ({line})"


def _in_turns(loop: TrainingLoop, block: Block, *, xla_only: bool) -> tuple[float, float]:
    """Return the seconds per step, as a plain graph and under XLA."""
    plain = xla = math.inf
    for _ in range(TRIALS):
        xla = min(xla, _seconds(loop, block, "xla") / block.steps)
        if xla_only:
            break
        plain = min(plain, _seconds(loop, block, "graph") / block.steps)
        if max(plain / xla, xla / plain) > CLEAR:
            break
    return plain, xla


def _seconds(loop: TrainingLoop, block: Block, mode: Literal["graph", "xla"]) -> float:
    updates = [True] * block.steps
    prepared = loop.prepare(block, updates)
    loop.compiled = mode
    start = time.perf_counter()
    loop.run(prepared, full=True)
    loop.wait()
    return time.perf_counter() - start


def _convolves_on_cpu(graph: Graph) -> bool:
    layers = graph.model._flatten_layers(include_self=False)
    convolves = any("Conv" in type(layer).__name__ for layer in layers)
    return convolves and not tf.config.list_logical_devices("GPU")
