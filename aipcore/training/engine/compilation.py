"""Compilation of the training loop: measured or fixed mode and steps per call."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal

import attrs
import tensorflow as tf

from aipcore.data.device_cache import IndexDataset
from aipcore.data.loader import Block, DataLoader
from aipcore.data.padding_sizes import Size, as_sizes, choose_sizes, elements_of, fitting_size, size_of
from aipcore.data.strings import STRING
from aipcore.errors import TrainingError
from aipcore.scenario.model import Graph
from aipcore.training.engine.padding import change_by_padding
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

FEWEST_SEEN, MOST_SEEN = 8, 64
"""Number of batches that the sizes are chosen from, within these limits: 1 of 20 batches of the run, or `MOST_SEEN` of
samples in memory."""

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
        sizes: the sizes that batches of samples of varying size are padded to, so that XLA compiles only these.
        padding: the share of additional elements in batches of these sizes.
    """

    mode: Literal["graph", "xla", "eager"]
    chunk: int
    reason: str
    sizes: tuple[Size, ...] = attrs.field(default=(), converter=as_sizes)
    padding: float = 0.0


def choose_compilation(
    loop: TrainingLoop,
    loader: DataLoader,
    state: VariableState,
    *,
    tune: Literal["auto", "off"] = "auto",
    jit_compile: Jit,
    eager: bool,
    total_steps: int,
    padding_sizes: int,
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
        padding_sizes: the maximum number of sizes for samples of varying size.
        look: called with the mean loss of the trial batches, and their number; may raise.

    Raises:
        TrainingError: the model cannot be compiled as requested.
    """
    if eager:
        return Compilation(mode="eager", chunk=1, reason="trainer.force_eager")
    full, uniform = loader.batching.full_steps, loader.dataset.uniform
    if not uniform and (full == 0 or jit_compile == "off" or (tune == "off" and jit_compile != "on")):
        return Compilation(mode="graph", chunk=1, reason="the samples differ in size")
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
    before = state.read()
    if not uniform:
        if (why := _not_for_sizes(loop, jit_compile, strings=strings)) is not None:
            return Compilation(mode="graph", chunk=1, reason=why)
        try:
            return _measured_with_sizes(loop, loader, state, jit_compile, total_steps, padding_sizes, look)
        finally:
            state.write(before)
    batch_bytes = loader.batching.batch_size * sum(spec.nbytes for side in sides for spec in side.values())
    most = max(1, min(full, CHUNK_BYTES // max(1, batch_bytes)))
    if tune == "off" and jit_compile != "on":
        return Compilation(mode="graph", chunk=min(most, FIXED_CHUNK), reason="trainer.tune off")
    try:
        if tune == "off":
            # Compiled now instead of by the first chunk, while an error can still be explained.
            chunk = min(most, FIXED_CHUNK)
            _compile(loop, _trial_block(loader, chunk), must=True)
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
    block = _trial_block(loader, chunk)
    if _compile(loop, block, must=jit_compile == "on") is None:
        return Compilation(mode="graph", chunk=chunk, reason="XLA cannot compile this model")
    plain, xla = _in_turns(loop, block, block, xla_only=jit_compile == "on")
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


def _not_for_sizes(loop: TrainingLoop, jit_compile: Jit, *, strings: bool) -> str | None:
    """Return the reason why samples of varying size are trained without XLA, if it is known without measuring."""
    if loop.distribution.replicas > 1:
        return "XLA cannot compile for several devices"
    if strings:
        return "XLA cannot compile a loop over strings"
    if jit_compile == "auto" and _convolves_on_cpu(loop.graph):
        return "XLA is slow for convolutions on a CPU"
    return None


def _measured_with_sizes(
    loop: TrainingLoop, loader: DataLoader, state: VariableState, jit_compile: Jit, total_steps: int,
    padding_sizes: int, look: Callable[[float, int], None] | None,
) -> Compilation:  # fmt: skip
    """Choose the compilation for samples of varying size, and the sizes of their batches if XLA is faster with them."""
    must = jit_compile == "on"

    def graph(reason: str) -> Compilation:
        return Compilation(mode="graph", chunk=1, reason=reason)

    with closing(loader.blocks(0, chunk=1)) as blocks:
        first = next(blocks)
    if not must:
        _seconds(loop, first, "graph")
        plain = _seconds(loop, first, "graph")
        if look is not None:
            look(loop.metrics.result()["loss"], 2)
        if plain * total_steps < WORTH_SECONDS:
            return graph("the run is too short to benefit from XLA")
    elements = elements_of(loader.dataset.specs())
    most = MOST_SEEN if loader.in_memory else max(FEWEST_SEEN, min(MOST_SEEN, total_steps // 20))
    seen, smallest = _seen_sizes(loader, first, most)
    sizes = choose_sizes(seen, elements, padding_sizes)
    if (change := _change_by_padding(loop, loader, state, smallest, sizes)) is not None:
        if must:
            raise TrainingError(
                f"Batches of samples of varying size cannot be padded to a few sizes for XLA: {change}. Mask the "
                "padding, for example with Embedding(mask_zero=True) or keras.layers.Masking, or use "
                "--trainer.jit_compile auto."
            )
        return graph(f"the samples differ in size, and {change}")
    by_size: dict[Size, list[Size]] = {size: [] for size in sizes}
    for each in sorted(seen, key=elements):
        by_size[fitting_size(sizes, each) or each].append(each)
    main = max(by_size, key=lambda size: len(by_size[size]) * elements(size))
    typical = by_size[main][len(by_size[main]) // 2]
    padded, unpadded = (_enlarged(smallest, loader, size) for size in (main, typical))
    compiling = _compile(loop, padded, must=must)
    if compiling is None:
        return graph("XLA cannot compile this model")
    padding = sum(elements(size) * len(of_size) for size, of_size in by_size.items()) / sum(map(elements, seen)) - 1
    if must:
        return Compilation(mode="xla", chunk=1, reason="trainer.jit_compile on", sizes=sizes, padding=padding)
    plain, xla = _in_turns(loop, unpadded, padded, xla_only=False)
    if xla >= plain:
        return graph(f"{xla / plain:.1f} times as fast as XLA")
    if (plain - xla) * total_steps < compiling * (len(sizes) - 1):
        return graph("the run is too short to benefit from XLA")
    reason = f"{plain / xla:.1f} times as fast as without XLA"
    return Compilation(mode="xla", chunk=1, reason=reason, sizes=sizes, padding=padding)


def _seen_sizes(loader: DataLoader, first: Block, most: int) -> tuple[list[Size], Block]:
    """Return the sizes of the first batch and of others, and the smallest of these batches without skipped samples."""
    specs = loader.dataset.specs()
    elements = elements_of(specs)
    seen, smallest = [size_of(first.sides, specs)], first
    fewest = -first.batch_size, elements(seen[0])
    with closing(loader.spread_blocks(most)) as blocks:
        for block in blocks:
            seen.append(size_of(block.sides, specs))
            found = -block.batch_size, elements(seen[-1])
            if found < fewest:
                smallest, fewest = block, found
    return seen, smallest


def _change_by_padding(
    loop: TrainingLoop, loader: DataLoader, state: VariableState, block: Block, sizes: Sequence[Size]
) -> str | None:
    """Return a sentence about a change of results if a batch is padded beyond the largest size, or None."""
    own = size_of(block.sides, loader.dataset.specs())
    # A multiple, for models that require one.
    longer = tuple(
        most if most > length else 2 * length
        for length, most in zip(own, map(max, zip(*sizes, strict=True)), strict=True)
    )
    return change_by_padding(loop, state, block, _enlarged(block, loader, longer))


def _enlarged(block: Block, loader: DataLoader, size: Size) -> Block:
    """Return a block of samples of varying size with at least the lengths of a size."""
    own = size_of(block.sides, loader.dataset.specs())
    return block.padded(loader.dataset, tuple(map(max, own, size)), loader.padding)


def _trial_block(loader: DataLoader, chunk: int) -> Block:
    """Return the first block, with the shape that XLA is compiled for."""
    room = xla_room(loader, chunk)
    return next(loader.blocks(0, chunk=min(chunk, room), room=room))


def _compile(loop: TrainingLoop, block: Block, *, must: bool) -> float | None:
    """Compile the loop for a block with XLA; return the seconds, or None if XLA cannot and does not have to."""
    try:
        return _seconds(loop, block, "xla")
    except tf.errors.OpError as error:
        if not must:
            return None
        raise TrainingError(f"{_xla_fault(error.message)}. Use --trainer.jit_compile auto.") from error


def _xla_fault(message: str) -> str:
    """Return the first line of an error of XLA, or its unsupported operations, without names of nodes."""
    unsupported = dict.fromkeys(re.findall(r"No registered '(\w+)' OpKernel", message))
    if unsupported:
        return f"XLA cannot compile this model, because it does not support {', '.join(unsupported)}"
    line = re.sub(r" *\{\{\w+ \S+\}\}", "", message.partition("\n")[0]).rstrip(".")
    return f"XLA cannot compile this model ({line})"


def _in_turns(loop: TrainingLoop, graph: Block, block: Block, *, xla_only: bool) -> tuple[float, float]:
    """Return the seconds per step of one block as a plain graph, and of another one under XLA."""
    plain = xla = math.inf
    for _ in range(TRIALS):
        xla = min(xla, _seconds(loop, block, "xla") / block.steps)
        if xla_only:
            break
        plain = min(plain, _seconds(loop, graph, "graph") / graph.steps)
        if max(plain / xla, xla / plain) > CLEAR:
            break
    return plain, xla


def _seconds(loop: TrainingLoop, block: Block, mode: Literal["graph", "xla"]) -> float:
    updates = [True] * block.steps
    prepared = loop.prepare(block, updates)
    loop.compiled = mode
    start = time.perf_counter()
    loop.run(prepared, fixed=True)
    loop.wait()
    return time.perf_counter() - start


def _convolves_on_cpu(graph: Graph) -> bool:
    layers = graph.model._flatten_layers(include_self=False)
    convolves = any("Conv" in type(layer).__name__ for layer in layers)
    return convolves and not tf.config.list_logical_devices("GPU")
