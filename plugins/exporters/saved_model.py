"""TensorFlow SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aip_plugins.exporters.params import SavedModelParams

from aipcore.training.servable import Exportable


def build(params: SavedModelParams) -> Callable[[Exportable, Path], None]:
    """Makes the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        exportable.save_model(folder)

    return export
