"""Parameters of the built-in exporters."""

from __future__ import annotations

from typing import Literal

from aipcore.hooks.records import ExporterParams
from aipcore.params import at_least, between, field, params

TOLERANCES = {"none": 1e-4, "float16": 1e-2, "dynamic": 1e-1}
"""The allowed differences from the model's outputs, by `LiteRTParams.quantize`."""


@params
class SavedModelParams(ExporterParams):
    """Writes `saved_model.pb` and `variables/`. The signature `serving_default` takes and returns named tensors."""


@params
class KerasParams(ExporterParams):
    """Writes `model.keras`. Loading it requires the classes of custom layers."""


@params
class OnnxParams(ExporterParams):
    """Writes `model.onnx`. Its inputs and outputs have the names of the signature, and batches have any size."""

    opset: int = field(
        18,
        help="Version of ONNX's operator set. The runtime that reads the model must support it.",
        check=between(15, 18),
    )


@params
class LiteRTParams(ExporterParams):
    """Writes `model.tflite` with the signature `serving_default`, using only LiteRT's built-in operators."""

    quantize: Literal["none", "float16", "dynamic"] = field(
        "none",
        help="Storage format of the weights. none keeps their dtype. float16 halves the size. dynamic stores 8-bit "
        "integers, a quarter of the size, and also uses integers in much of the computation.",
    )
    batch_size: int | None = field(
        None,
        help="Fixed number of samples per call. Recurrent layers need it, because LiteRT does not support them for "
        "batches of any size. none allows any number.",
        check=at_least(1),
    )


def litert_tolerance(params: LiteRTParams) -> float:
    """Return the allowed difference from the model's outputs: rounded weights change them."""
    return TOLERANCES[params.quantize]
