"""How the loop is compiled and how many batches make a chunk: measured on throw-away copies of the state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import attrs
import tensorflow as tf

from aipcore.data.ahead import BLOCKS
from aipcore.data.feed import Block, Feed
from aipcore.data.resident import Numbers
from aipcore.data.stream import StreamedDataset
from aipcore.errors import TrainingError
from aipcore.scenario.graph import Graph
from aipcore.training.loop import TrainingLoop
from aipcore.training.state import VariableState

CHUNK_SECONDS = 0.2
"""How long a chunk should take: short enough to answer Ctrl-C, long enough for the call itself to cost nothing."""

CHUNK_BYTES = 32 * 2**20
"""Most bytes of samples in a chunk."""

WORTH_SECONDS = 5.0
"""A run that the plain graph finishes within this time is not worth an XLA compilation."""

PROBE_STEPS = 4

MOST_ROOM = 4096
"""Batches in a block of numbers of samples, at most."""


@attrs.frozen(kw_only=True)
class Compilation:
    """How a run is compiled; part of its state, since the two ways differ in the last bits.

    Attributes:
        mode: "graph", "xla" or "eager".
        chunk: most batches per call.
        reason: why, for the plan.
    """

    mode: Literal["graph", "xla", "eager"]
    chunk: int
    reason: str


def choose_compilation(
    loop: TrainingLoop,
    feed: Feed,
    state: VariableState,
    *,
    jit_compile: Literal["auto", "on", "off"],
    eager: bool,
    total_steps: int,
    look: Callable[[float, int], None] | None = None,
) -> Compilation:
    """Measures how the loop runs best and leaves the state as it was, bit for bit.

    Args:
        loop: the loop, its variables built.
        feed: the training data.
        state: all variables that a step may change.
        jit_compile: the user's wish.
        eager: whether to compile nothing.
        total_steps: batches in the whole run.
        look: is given the mean loss of the batches that were tried, and their number; may raise.
    """
    if eager:
        return Compilation(mode="eager", chunk=1, reason="trainer.force_eager")
    if not feed.dataset.uniform:
        return Compilation(mode="graph", chunk=1, reason="samples vary in size")
    full = feed.batching.full_steps
    if full == 0:
        return Compilation(mode="graph", chunk=1, reason="the data set is smaller than a batch")
    before = state.read()
    try:
        return _measured(loop, feed, jit_compile, total_steps, look)
    finally:
        state.write(before)


def _measured(
    loop: TrainingLoop,
    feed: Feed,
    jit_compile: Literal["auto", "on", "off"],
    total_steps: int,
    look: Callable[[float, int], None] | None,
) -> Compilation:
    full = feed.batching.full_steps
    probe = next(feed.blocks(0, chunk=min(PROBE_STEPS, full)))
    _seconds(loop, probe, "graph")
    plain = _seconds(loop, probe, "graph") / probe.steps
    if look is not None:
        look(loop.metrics.result()["loss"], 2 * probe.steps)
    sample_bytes = sum(column.nbytes for column in (*probe.inputs.values(), *probe.targets.values()))
    fits = max(1, int(CHUNK_BYTES / max(1, sample_bytes / probe.steps)))
    # Samples made on demand are made while others are trained on, which takes several blocks an epoch.
    most = -(-full // BLOCKS) if isinstance(feed.dataset, StreamedDataset) else full
    chunk = max(1, min(most, fits, round(CHUNK_SECONDS / plain)))
    if loop.distribution.replicas > 1:
        if jit_compile == "on":
            raise TrainingError(
                "XLA cannot compile a loop over several devices: train with --trainer.jit_compile auto, or with "
                "--device.strategy none."
            )
        return Compilation(mode="graph", chunk=chunk, reason="several devices share each batch")
    if jit_compile == "off":
        return Compilation(mode="graph", chunk=chunk, reason="trainer.jit_compile off")
    if jit_compile == "auto":
        if _convolves_on_cpu(loop.graph):
            return Compilation(mode="graph", chunk=chunk, reason="convolutions on a CPU are slow under XLA")
        if plain * total_steps < WORTH_SECONDS:
            return Compilation(mode="graph", chunk=chunk, reason="the run is too short for XLA to pay")
    room = xla_room(feed, chunk)
    block = next(feed.blocks(0, chunk=min(chunk, room), room=room))
    try:
        _seconds(loop, block, "xla")
        xla = _seconds(loop, block, "xla") / block.steps
    except tf.errors.OpError as error:
        message = (error.message or str(error)).splitlines()[0]
        if jit_compile == "on":
            raise TrainingError(
                f"XLA cannot compile this model ({message}): train with --trainer.jit_compile auto."
            ) from error
        return Compilation(mode="graph", chunk=chunk, reason="XLA cannot compile this model")
    fitting = max(block.steps, min(room, round(CHUNK_SECONDS / xla)))
    if jit_compile == "on":
        return Compilation(mode="xla", chunk=fitting, reason="trainer.jit_compile on")
    if xla < plain:
        chunk = fitting
        return Compilation(mode="xla", chunk=chunk, reason=f"{plain / xla:.1f} times the speed of the plain graph")
    return Compilation(mode="graph", chunk=chunk, reason=f"{xla / plain:.1f} times the speed of XLA")


def xla_room(feed: Feed, chunk: int) -> int:
    """How many batches have room in the blocks of the one shape that XLA is compiled for.

    Where a block is the numbers of samples, room costs nothing, and how many batches a call runs needs no other shape.
    """
    return min(feed.batching.full_steps, MOST_ROOM) if isinstance(feed.dataset, Numbers) else chunk


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
