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
        help="Action for a sample that cannot be read or processed. raise ends the run. skip leaves the sample out and "
        "reports the number of skipped samples after the epoch.",
    )
    preload_mib: int = field(
        1024,
        help="Memory limit in MiB for preload auto, per dataset. It applies to processed samples.",
        check=at_least(0),
    )
    workers: int | Literal["auto"] = field(
        "auto",
        help="Worker processes that read and process samples. auto: one per core if they are measured to be faster. 0 "
        "disables them.",
        check=Check("auto or at least 0", lambda count: count == "auto" or count >= 0),
    )
    buffer_mib: int = field(
        256,
        help="Memory limit in MiB for samples prepared by workers. Workers prepare samples in advance.",
        check=at_least(1),
    )


@params
class ModelParams:
    """Parameters of the model."""


@params
class ScenarioParams:
    """Parameters of a scenario; the trainer's are added to them when a run is set up."""

    data: DataParams = group(DataParams, help="Data and its processing.")
    model: ModelParams = group(ModelParams, help="Architecture of the model.")
    train: TrainDataParams = group(TrainDataParams, help="Batching of training samples.")
    val: ValDataParams = group(ValDataParams, help="Batching of validation samples.")
    lav: LavDataParams = group(LavDataParams, help="Batching of samples in LAV (the extended validation).")
