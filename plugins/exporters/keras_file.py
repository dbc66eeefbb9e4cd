"""Keras' own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
from aip_plugins.exporters.params import KerasParams

from aipcore.training.servable import Exportable


def build(params: KerasParams) -> Callable[[Exportable, Path], None]:
    """Makes the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        model = exportable.graph.model
        # Without the optimizer, whose class a reader may not have; the layers and weights are shared, not copied.
        keras.Model(model.input, model.output, name=model.name).save(folder / "model.keras")

    return export
