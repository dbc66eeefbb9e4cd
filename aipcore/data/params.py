"""Parameters of the data pipelines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aipcore.params import at_least, field, params
from aipcore.params.checks import WholeCheck

PRELOAD = (
    "Keep the results of deterministic processors in memory. auto keeps them if they fit into --data.preload_mib. "
    "Other samples are read and processed again in each epoch."
)

DEFAULT_BATCH_SIZE = 16

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


LIMIT = (
    "Number of samples to use, from the start of the data. Samples are counted before processing, and no others are "
    "read. none: all samples."
)


@params
class TrainDataParams:
    """Batching of training samples."""

    batch_size: int = field(DEFAULT_BATCH_SIZE, help="Samples per training batch.", check=at_least(1))
    shuffle: bool = field(
        True, help="Visit the samples in a new random order each epoch. The order depends on the seed."
    )
    shuffle_buffer: int = field(
        0,
        help="Elements of a stream that are shuffled together. 0 keeps the order of the stream.",
        check=at_least(0),
    )
    bucket_window: int = field(
        0,
        help="Batches within which samples are sorted by length. Sorting reduces padding. 100 is a good value, and 0 "
        "disables it.",
        check=at_least(0),
    )
    batch_drop_remainder: bool = field(
        False, help="Drop the last batch of an epoch if it is not full. A full batch has batch_size samples."
    )
    limit: int | None = field(None, help=LIMIT, check=at_least(1))
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)
    adapt_samples: int | None = field(
        None,
        help="Samples that preprocessing() is adapted to. They are the first ones. none: all samples, but at most "
        "100,000 of a stream.",
        check=at_least(1),
    )
    class_weight: tuple[str, ...] | None = field(
        None,
        help="Weights of training samples by class, such as 0=1 1=5. Other classes have the weight 1. The single word "
        "balanced gives all classes the same total weight.",
        check=WholeCheck(
            "one CLASS=WEIGHT per class, for example 0=1 1=5, or the single word balanced. In a parameter file, write "
            "{0: 1, 1: 5} or balanced",
            _is_class_weight,
        ),
        convert=_as_entries,
    )


@params
class ValDataParams:
    """Batching of validation samples."""

    batch_size: int | None = field(
        None, help="Samples per validation batch. none: the training batch size.", check=at_least(1)
    )
    bucket_window: int = field(
        0,
        help="Batches within which samples are sorted by length. Sorting reduces padding. Means over batches depend on "
        "it. 0 disables it.",
        check=at_least(0),
    )
    limit: int | None = field(None, help=LIMIT, check=at_least(1))
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)


@params
class LavDataParams:
    """Batching of samples in LAV."""

    batch_size: int | None = field(
        None, help="Samples per batch in LAV. none: the validation batch size.", check=at_least(1)
    )
    show_samples: int = field(
        0,
        help="Samples per list whose target and prediction are printed. They are printed as text and evenly spaced "
        "over the list. 0 prints none.",
        check=at_least(0),
    )
    limit: int | None = field(
        None,
        help="Number of samples to use, from the start of each list. Samples are counted before processing. none: "
        "--val.limit for the validation data, and all samples of other lists.",
        check=at_least(1),
    )
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)
