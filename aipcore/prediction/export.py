"""Converting a trained model with any exporter, and making sure that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.data.specs import ColumnSpec
from aipcore.errors import TrainingError
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.prediction.member import Member, load_graph
from aipcore.prediction.model_dir import ModelDir
from aipcore.prediction.rebuilt import rebuild
from aipcore.scenario.scenario import Scenario
from aipcore.training.servable import Exportable, ModelWriter

Arrays = dict[str, npt.NDArray[Any]]

SAMPLES = 4
ANY = 8
"""The length of an axis that may have any, in the inputs that are compared."""

TOLERANCE = 1e-4
"""How far outputs may differ, relative to the largest of them: other kernels add up in another order."""


def export_model(
    model: ModelDir, scenario: Scenario, exporter: Callable[[Exportable, Path], None], output: Path
) -> float:
    """Builds the Keras model of a model on disk and writes it in another format.

    Args:
        model: what to convert.
        scenario: made with the parameters of the model.
        exporter: from an exporter plugin.
        output: a folder that is new or empty.

    Returns:
        the greatest difference between the outputs of the model on disk and of the Keras model that was written, for
        random inputs; 0 for a checkpoint, whose weights are checked one by one.

    Raises:
        UsageError: the weights are damaged, or of another model than the scenario builds now.
        TrainingError: the two models differ, or the folder cannot be written; there is no output then.
    """
    graph = rebuild(model, scenario)
    inputs = {name: _random(spec) for name, spec in graph.inputs.items()}
    difference = 0.0
    if model.kind == "model":
        difference = _difference(Member(load_graph(model, scenario)).run(inputs), Member(graph).run(inputs), model.path)
    about = dict(model.about)
    writer = ModelWriter(graph, {"this": exporter}, about, resources=model.home / RESOURCES)
    writer.write(output)
    return difference


def _random(spec: ColumnSpec) -> npt.NDArray[Any]:
    generator = np.random.default_rng(0)
    shape = (SAMPLES, *(ANY if size is None else size for size in spec.shape))
    dtype = np.dtype(spec.dtype)
    # Whole numbers may be indices of a table of any size, or lengths.
    return (
        generator.normal(size=shape).astype(dtype)
        if dtype.kind == "f"
        else generator.integers(0, 2, shape).astype(dtype)
    )


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> float:
    worst = 0.0
    for name, array in ours.items():
        one, other = array.astype(np.float64), theirs[name].astype(np.float64)
        scale = float(np.abs(one).max(initial=1.0))
        found = float(np.abs(one - other).max(initial=0.0))
        if one.shape != other.shape or not found <= TOLERANCE * scale:
            raise TrainingError(
                f"The model that the scenario builds now does not answer like {path}: {name or 'its output'} differs "
                f"by {found:.3g}; use the version that trained it."
            )
        worst = max(worst, found)
    return worst
