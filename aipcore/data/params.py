"""Parameters of the data pipelines."""

from __future__ import annotations

from typing import Literal

from aipcore.params import at_least, field, params

PRELOAD = (
    "Keep in memory what processing gives the same each time; auto: if it fits into --data.preload_mib. "
    "What is not kept is read and processed anew in each epoch."
)


LIMIT = "Use only the first so many samples, counted before processing, and read no others; none: all of them."


@params
class TrainDataParams:
    """How training samples are batched."""

    batch_size: int = field(16, help="Samples in one training batch.", check=at_least(1))
    shuffle: bool = field(True, help="Visit the samples in a new random order each epoch, derived from the seed.")
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


@params
class ValDataParams:
    """How validation samples are batched."""

    batch_size: int | None = field(
        None, help="Samples in one validation batch; by default that of training.", check=at_least(1)
    )
    limit: int | None = field(None, help=LIMIT, check=at_least(1))
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)


@params
class LavDataParams:
    """How samples of the extended validation are batched."""

    batch_size: int | None = field(
        None, help="Samples in one batch of the extended validation; by default that of validation.", check=at_least(1)
    )
    limit: int | None = field(
        None,
        help="Use only the first so many samples of each list, counted before processing; none: as --val.limit for the "
        "validation data, and all of other lists.",
        check=at_least(1),
    )
    preload: Literal["auto", "on", "off"] = field("auto", help=PRELOAD)
