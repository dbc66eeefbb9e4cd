"""Keras' own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aip_plugins.exporters.params import KerasParams

from aipcore.training.servable import Exportable


def build(params: KerasParams) -> Callable[[Exportable, Path], None]:
    """Makes the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        exportable.graph.model.save(folder / "model.keras")

    return export
