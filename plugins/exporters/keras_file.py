"""Export to the Keras format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from aip_plugins.exporters.params import KerasParams

from aipcore.errors import FormatError
from aipcore.scenario.model import BARE_INPUT, BARE_OUTPUT
from aipcore.scenario.preprocessing import PreprocessedGraph
from aipcore.training.export.saved_model import Exportable

FILE = "model.keras"


def build(params: KerasParams) -> Callable[[Exportable, Path], None]:
    """Return the exporter."""
    del params

    def export(exportable: Exportable, folder: Path) -> None:
        model = exportable.graph.model
        if isinstance(exportable.graph, PreprocessedGraph):
            raise FormatError(
                "Keras cannot express the preprocessing() of a scenario. Leave Keras out, or use the layers in build()."
            )
        # Without the optimizer, whose class a reader may lack. Layers and weights are shared, not copied.
        with _as_numpy_1():
            keras.Model(model.input, model.output, name=model.name).save(folder / FILE)

    return export


@contextmanager
def _as_numpy_1() -> Iterator[None]:
    """Ignore NumPy's warning about the conversion of arrays in Keras, which only Keras can fix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        yield


def load(folder: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Load an export as a function from NumPy arrays by input name to NumPy arrays by output name."""
    with _as_numpy_1():
        model = keras.models.load_model(folder / FILE, compile=False, safe_mode=True)
    named = isinstance(model.input, Mapping)

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        answers = model(dict(inputs) if named else inputs[BARE_INPUT], training=False)
        if not isinstance(answers, Mapping):
            answers = {BARE_OUTPUT: answers}
        return {name: value.numpy() for name, value in answers.items()}

    return run
