"""Parameters of the data pipelines."""

from __future__ import annotations

from aipcore.params import at_least, field, params


@params
class TrainDataParams:
    """How training samples are batched."""

    batch_size: int = field(16, help="Samples in one training batch.", check=at_least(1))
    shuffle: bool = field(True, help="Visit the samples in a new random order each epoch, derived from the seed.")


@params
class ValDataParams:
    """How validation samples are batched."""

    batch_size: int | None = field(
        None, help="Samples in one validation batch; by default that of training.", check=at_least(1)
    )


@params
class LavDataParams:
    """How samples of the extended validation are batched."""

    batch_size: int | None = field(
        None, help="Samples in one batch of the extended validation; by default that of validation.", check=at_least(1)
    )
