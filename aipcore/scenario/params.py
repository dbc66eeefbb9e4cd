"""The parameters common to all scenarios; an author extends `ScenarioParams` and its `data` and `model` groups."""

from __future__ import annotations

from typing import Literal

from aipcore.data.params import LavDataParams, TrainDataParams, ValDataParams
from aipcore.params import Check, at_least, field, group, params


@params
class DataParams:
    """Parameters of the data."""

    on_error: Literal["raise", "skip"] = field(
        "raise",
        help="What to do about a sample that cannot be read or processed: end the run, or leave the sample out and say "
        "after the epoch how many there were.",
    )
    preload_mib: int = field(
        1024,
        help="Most MiB of processed samples that preload auto keeps of one data set.",
        check=at_least(0),
    )
    workers: int | Literal["auto"] = field(
        "auto",
        help="Processes that make samples; auto: one for each core if that is measured to pay, 0: none.",
        check=Check("auto or at least 0", lambda count: count == "auto" or count >= 0),
    )
    buffer_mib: int = field(
        256,
        help="Most MiB of samples that the workers make ahead of the training.",
        check=at_least(1),
    )


@params
class ModelParams:
    """Parameters of the model."""


@params
class ScenarioParams:
    """Parameters of a scenario; the trainer's are added to them when a run is set up."""

    data: DataParams = group(DataParams, help="What data there is.")
    model: ModelParams = group(ModelParams, help="What the model looks like.")
    train: TrainDataParams = group(TrainDataParams, help="How training samples are batched.")
    val: ValDataParams = group(ValDataParams, help="How validation samples are batched.")
    lav: LavDataParams = group(LavDataParams, help="How samples of the extended validation (LAV) are batched.")
