"""TensorFlow SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from aip_plugins.exporters.params import SavedModelParams

from aipcore.training.servable import SIGNATURE, Exportable


def build(params: SavedModelParams) -> Callable[[Exportable, Path], None]:
    """Makes the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        exportable.save_model(folder)

    return export


def load(folder: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Loads what was exported: a function from NumPy arrays by input name to NumPy arrays by output name."""
    model = tf.saved_model.load(str(folder))

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        # Through the model, which a signature alone does not keep alive together with its variables.
        answers = model.signatures[SIGNATURE](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    return run
