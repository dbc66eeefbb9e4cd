"""Parameters of the data pipelines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aipcore.params import at_least, field, params
from aipcore.params.checks import WholeCheck

PRELOAD = (
    "Keep in memory what processing gives the same each time; auto: if it fits into --data.preload_mib. "
    "What is not kept is read and processed anew in each epoch."
)

BALANCED = "balanced"

MOST_CLASSES = 2**24
"""The most classes that can have a weight."""


def parse_class_weight(entries: Sequence[str]) -> dict[int, float]:
    """Return the weight of each class from entries such as "0=1".

    Raises:
        ValueError: an entry has another form, or a class occurs twice.
    """
    weights: dict[int, float] = {}
    for entry in entries:
        word, equals, weight = entry.partition("=")
        if not (equals and word.isascii() and word.isdigit() and len(word) <= len(str(MOST_CLASSES))):
            raise ValueError(entry)
        number = int(word)
        if number in weights or number >= MOST_CLASSES or not math.isfinite(float(weight)):
            raise ValueError(entry)
        weights[number] = float(weight)
    return weights


def _as_entries(given: Any) -> Any:
    """Return a mapping such as `{0: 1, 1: 5}`, or the text `balanced`, as entries. Keys in JSON are texts."""
    if isinstance(given, Mapping):
        return tuple(f"{number}={weight}" for number, weight in given.items())
    if given == BALANCED:
        return (BALANCED,)
    return tuple(given) if isinstance(given, list) else given


def _is_class_weight(entries: tuple[str, ...]) -> bool:
    try:
        return entries == (BALANCED,) or bool(parse_class_weight(entries))
    except (TypeError, ValueError):
        return False


LIMIT = "Use only the first so many samples, counted before processing, and read no others; none: all of them."


@params
class TrainDataParams:
    """Batching of training samples."""

    batch_size: int = field(16, help="Samples in one training batch.", check=at_least(1))
    shuffle: bool = field(True, help="Visit the samples in a new random order each epoch, derived from the seed.")
    shuffle_buffer: int = field(
        0,
        help="Samples of a stream that are shuffled together. A stream keeps its own order if this is 0.",
        check=at_least(0),
    )
    bucket_window: int = field(
        0,
        help="Batches within which samples are sorted by length, so that each batch pads little; 100 is a good number, "
        "0: do not sort.",
        check=at_least(0),
    )
    batch_drop_remainder: bool = field(
        False, help="Leave out the last batch of an epoch if it has fewer samples than batch_size."
    )
    limit: int | None = field(None, help=LIMIT, check=at_least(1))
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)
    class_weight: tuple[str, ...] | None = field(
        None,
        help="How much a training sample counts, by its class; 1 for other classes. balanced: all classes count the "
        "same in all.",
        check=WholeCheck(
            "CLASS=WEIGHT once for each class, such as 0=1 1=5, or balanced alone (in files {0: 1, 1: 5}, or balanced)",
            _is_class_weight,
        ),
        convert=_as_entries,
    )


@params
class ValDataParams:
    """Batching of validation samples."""

    batch_size: int | None = field(
        None, help="Samples in one validation batch; by default that of training.", check=at_least(1)
    )
    limit: int | None = field(None, help=LIMIT, check=at_least(1))
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)


@params
class LavDataParams:
    """Batching of samples in LAV."""

    batch_size: int | None = field(
        None, help="Samples in one batch of the extended validation; by default that of validation.", check=at_least(1)
    )
    show_samples: int = field(
        0,
        help="Samples of each list whose target and prediction are printed as text, evenly spaced over the list; 0: "
        "none.",
        check=at_least(0),
    )
    limit: int | None = field(
        None,
        help="Use only the first so many samples of each list, counted before processing; none: as --val.limit for the "
        "validation data, and all of other lists.",
        check=at_least(1),
    )
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)
