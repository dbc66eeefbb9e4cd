"""Export to a TensorFlow SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aip_plugins.exporters.params import SavedModelParams

from aipcore.training.export.saved_model import SIGNATURE, Exportable
from aipcore.training.export.verify import load_signature


def build(params: SavedModelParams) -> Callable[[Exportable, Path], None]:
    """Return the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        exportable.save_model(folder)

    return export


def load(folder: Path) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Load an export as a function from NumPy arrays by input name to NumPy arrays by output name."""
    return load_signature(SIGNATURE, folder)
