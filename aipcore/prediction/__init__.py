"""Application of trained models: prediction, LAV and export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction, Predictor
    from aipcore.prediction.saved_predictions import read_predictions
    from aipcore.training.warmstart.readers import read_variables

__all__ = ["Prediction", "Predictor", "read_predictions", "read_variables"]

_PLACES = {
    "Prediction": "aipcore.prediction.predictor",
    "Predictor": "aipcore.prediction.predictor",
    "read_predictions": "aipcore.prediction.saved_predictions",
    "read_variables": "aipcore.training.warmstart.readers",
}


def __getattr__(name: str) -> Any:
    # The command line imports light names from here, which must not import TensorFlow.
    if name in _PLACES:
        from aipcore.start_tensorflow import import_tensorflow

        import_tensorflow()
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
