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
        ",", help="What stands between two columns.", check=Check("one character", lambda s: len(s) == 1)
    )


@params
class ReduceOnPlateauParams(CallbackParams):
    """Multiplies the learning rate, whatever its schedule, by `factor` after `patience` epochs without improvement."""

    factor: float = field(0.5, help="What the learning rate is multiplied by.", check=between(1e-6, 1 - 1e-6))
    patience: int = field(5, help="Epochs without improvement before the rate is lowered.", check=at_least(1))
    min_delta: float = field(1e-4, help="A smaller change of the monitored value is no improvement.", check=at_least(0))
    cooldown: int = field(0, help="Epochs after a reduction in which none is counted.", check=at_least(0))
    min_scale: float = field(1e-6, help="The scheduled rate is never multiplied by less than this.", check=at_least(0))


@params
class TerminateOnNaNParams(CallbackParams):
    """Checks the training loss after each chunk of batches and each epoch; the last good checkpoint stays."""
