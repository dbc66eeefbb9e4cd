"""Parameters of the built-in callbacks."""

from __future__ import annotations

from aipcore.hooks.records import CallbackParams
from aipcore.params import Check, at_least, between, field, params


@params
class CSVLogParams(CallbackParams):
    """One row per epoch, flushed immediately, with a column for each loss and metric."""

    file: str = field(
        "log.csv",
        help="Name of the file in the output folder.",
        check=Check(
            "a plain file name", lambda name: bool(name) and "/" not in name and "\\" not in name and name[0] != "."
        ),
    )
    separator: str = field(
        ",", help="Character between two columns.", check=Check("one character", lambda s: len(s) == 1)
    )


@params
class ReduceOnPlateauParams(CallbackParams):
    """Multiplies the learning rate of any schedule by `factor` after `patience` epochs without improvement."""

    factor: float = field(0.5, help="Factor applied to the learning rate.", check=between(1e-6, 1 - 1e-6))
    patience: int = field(5, help="Epochs without improvement before the rate is lowered.", check=at_least(1))
    min_delta: float = field(1e-4, help="Smallest change that counts as an improvement.", check=at_least(0))
    cooldown: int = field(0, help="Epochs after a reduction that are not counted.", check=at_least(0))
    min_scale: float = field(1e-6, help="Lowest total factor applied to the scheduled rate.", check=at_least(0))


@params
class TerminateOnNaNParams(CallbackParams):
    """Checks the training loss after each chunk of batches and each epoch. The last good checkpoint is kept."""
