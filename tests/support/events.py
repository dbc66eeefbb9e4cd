"""TensorBoard event files, read by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def events_of(folder: Path) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """Return every step with its value, by run and tag."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for file in sorted(folder.rglob("events.*")):
        tags = found.setdefault(file.parent.name, {})
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append((event.step, make_ndarray(value.tensor)))
    return found
