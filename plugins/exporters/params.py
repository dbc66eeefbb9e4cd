"""Parameters of the built-in exporters."""

from __future__ import annotations

from typing import Literal

from aipcore.hooks.records import ExporterParams
from aipcore.params import at_least, between, field, params

TOLERANCES = {"none": 1e-4, "float16": 1e-2, "dynamic": 1e-1}
"""The allowed differences from the model's outputs, by `LiteRTParams.quantize`."""


@params
class SavedModelParams(ExporterParams):
    """Writes `saved_model.pb` and `variables/`; the signature `serving_default` takes and returns named tensors."""


@params
class KerasParams(ExporterParams):
    """Writes `model.keras`; loading it requires the classes of custom layers."""


@params
class OnnxParams(ExporterParams):
    """Writes `model.onnx`, whose inputs and outputs have the names of the signature and batches of any size."""

    opset: int = field(
        18, help="Version of ONNX's operators; what reads the model must know it.", check=between(15, 18)
    )


@params
class LiteRTParams(ExporterParams):
    """Writes `model.tflite` with the signature `serving_default`, using only LiteRT's built-in operators."""

    quantize: Literal["none", "float16", "dynamic"] = field(
        "none",
        help="How weights are stored: as they are; as float16, half the size; dynamic: as 8-bit integers, a quarter, "
        "with which much is computed in integers too.",
    )
    batch_size: int | None = field(
        None,
        help="Samples that the file takes at a time, for recurrent layers, which LiteRT cannot express for any number; "
        "none: any number.",
        check=at_least(1),
    )


def litert_tolerance(params: LiteRTParams) -> float:
    """Return the allowed difference from the model's outputs: rounded weights change them."""
    return TOLERANCES[params.quantize]
