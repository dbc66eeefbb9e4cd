"""Application of trained models: prediction, LAV and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction, Predictor
    from aipcore.prediction.saved_predictions import read_predictions

__all__ = ["Prediction", "Predictor", "read_predictions"]


def __getattr__(name: str) -> Any:
    # The command line imports light names from here, which must not import TensorFlow.
    if name in __all__:
        from aipcore.start_tensorflow import import_tensorflow

        import_tensorflow()
        from aipcore.prediction import predictor, saved_predictions

        return getattr(saved_predictions if name == "read_predictions" else predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
