"""Files and messages that are almost valid, and a check of their readers."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aipcore.errors import AipError

BYTES = 256 * 2**20
SECONDS = 2.0
"""Of this process, since others may use the machine."""

LONGER = 20
"""How many times the examples of a default run the slow one has, which makes 10,000 in all."""

SPECIAL: list[Any] = [
    None, True, False, 0, -1, 7, 2**31, 2**63, 2**70, -(2**70), 0.5, 1e308, float("nan"), float("inf"), "", "x", "***",
    "a" * 2000, "\x1b]0;x\x07", "../../etc", "/etc/passwd", "\x00", "\ud800", [], {}, [[]], [None], {"": None},
    {"name": "x"}, "env:HOME", "postgresql://a:b@c/d", "none", "é\u2028", "float32", "bfloat16", "object",
]  # fmt: skip
NAMES = st.sampled_from(["x", "", "\x1b", "name", "a.b"])

texts = st.text("aZ0. ,:;/\\~#'\"[]{}<>&*!%=-_\n\r\t\x00\x1b\x7f\x9bé\u2028\ufeff\ud800\U0001f600", max_size=20)
leaves = st.sampled_from(SPECIAL) | st.integers() | st.floats() | texts
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


def deep(start: bytes) -> st.SearchStrategy[bytes]:
    """Return JSON that nests up to 200,000 times."""
    return st.integers(0, 200_000).map(lambda depth: start * depth)


def as_json(content: Any) -> bytes:
    """Return a file of JSON, in which a lone surrogate is an escape."""
    return json.dumps(content, indent=1).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in JSON values with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Return valid JSON values with some of them replaced, copied, moved or left out."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        there = list(_places(content))
        if not there:
            break
        container, key = draw(st.sampled_from(there))
        kind = draw(st.sampled_from(["remove", "move", "copy", "replace", "replace", "replace"]))
        if kind == "remove":
            del container[key]
        elif kind == "replace" or isinstance(container, list):
            container[key] = deepcopy(draw(json_values))  # All examples share the special values.
        else:
            other, name = draw(st.sampled_from(there))
            # As text, since a value cannot contain itself.
            moved = json.loads(json.dumps(other[name]))
            container[key if kind == "move" else draw(NAMES)] = moved
    return content


@st.composite
def broken(draw: st.DrawFn, content: bytes) -> bytes:
    """Return valid bytes with some of them changed, left out, inserted, repeated or cut off."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        kind = draw(st.sampled_from(["remove", "insert", "repeat", "flip", "flip", "overwrite", "cut"]))
        if kind == "remove":
            del made[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            made[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif kind == "repeat":
            made[at:at] = made[at : at + 40]
        elif kind == "flip" and at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            made[at : at + 8] = draw(st.sampled_from([b"\xff" * 8, bytes(8), b"[{[{[{[{", b"99999999"]))
        elif kind == "cut":
            del made[at:]
    return bytes(made)


def files(content: Any) -> st.SearchStrategy[bytes]:
    """Return a file of JSON with changed values or changed bytes, or one that nests deeply."""
    values = changed(content).map(as_json)
    return st.one_of(values, values, broken(as_json(content)), deep(b"[") | deep(b'{"a":'))


def check(read: Callable[[Any], Any], value: Any) -> None:
    """Pass an example to a reader, which may only raise AipError, within limits of memory and time.

    Memory beyond the limit is a MemoryError. Unlike `tracemalloc`, the limit covers libraries and takes no time.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, hard))
    try:
        seconds = _seconds(read, value)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert seconds < SECONDS


def _seconds(read: Callable[[Any], Any], value: Any) -> float:
    began = time.process_time()
    with suppress(AipError):
        read(value)
    return time.process_time() - began


def explore(strategy: st.SearchStrategy[Any], read: Callable[[Any], Any], examples: int) -> None:
    """Pass examples to a reader, the same ones in each run."""

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(strategy)
    def tried(value: Any) -> None:
        check(read, value)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried()
    # Allocations of libraries, which Python does not count.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * BYTES / 1024
