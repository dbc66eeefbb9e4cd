"""aip: the plugin-based training framework for TensorFlow and Keras 3."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Predictor
    from aipcore.scenario.scenario import Scenario
    from aipcore.training.reporter import Reporter, TrainResult
    from aipcore.training.resume import resume
    from aipcore.training.train import train
    from aipcore.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = ["Predictor", "Reporter", "Scenario", "TrainResult", "Trainer", "resume", "train"]

_PLACES = {
    "Predictor": "aipcore.prediction.predictor",
    "Reporter": "aipcore.training.reporter",
    "Scenario": "aipcore.scenario.scenario",
    "TrainResult": "aipcore.training.reporter",
    "Trainer": "aipcore.training.trainer",
    "resume": "aipcore.training.resume",
    "train": "aipcore.training.train",
}


def __getattr__(name: str) -> Any:
    # Modules that need TensorFlow are imported on first use, with its start-up notices held back.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("Predictor", "Trainer"):
        import_module("aipcore.start_tensorflow").import_tensorflow()
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
