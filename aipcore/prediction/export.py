"""Converting a trained model with any exporter, and making sure that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.modes import Mode
from aipcore.data.specs import ColumnSpec
from aipcore.errors import AipError, TrainingError
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.prediction.data import open_pipeline
from aipcore.prediction.member import Member, load_graph
from aipcore.prediction.model_dir import ModelDir
from aipcore.prediction.rebuilt import rebuild
from aipcore.scenario.graph import Graph
from aipcore.scenario.scenario import Scenario
from aipcore.training.formats import BATCHES, Format, some_batches
from aipcore.training.servable import ModelWriter

Arrays = dict[str, npt.NDArray[Any]]

ANY = 8
"""The length of an axis that may have any, in inputs that are made up."""

TOLERANCE = 1e-4
"""How far outputs may differ, relative to the largest of them: other kernels add up in another order."""


@attrs.frozen(kw_only=True)
class Exported:
    """What came of an export.

    Attributes:
        deviation: the largest difference between an output of the model and of what was written, relative to the
            largest of its numbers or to 1 if that is more.
        inputs: what both were given, as part of a sentence.
    """

    deviation: float
    inputs: str


def export_model(model: ModelDir, scenario: Scenario, form: Format, name: str, output: Path) -> Exported:
    """Builds the Keras model of a model on disk and writes it in another format.

    Its answers are compared with those of the model on disk (of a checkpoint, the weights are checked one by one), and
    those of what was written with its own, for validation samples or, if there are none, for random inputs.

    Args:
        model: what to convert.
        scenario: made with the parameters of the model.
        form: the format, from an exporter plugin.
        name: of the format.
        output: a folder that is new or empty.

    Raises:
        UsageError: the weights are damaged, or of another model than the scenario builds now.
        FormatError: the format cannot express the model, or what was written answers otherwise; there is no output.
        TrainingError: the two models differ, or the folder cannot be written; there is no output then.
    """
    graph = rebuild(model, scenario)
    batches, told = _inputs(model, scenario, graph)
    if model.kind == "model":
        stored, rebuilt = Member(load_graph(model, scenario)), Member(graph)
        for inputs in batches:
            _compare(stored.run(inputs), rebuilt.run(inputs), model.path)
    writer = ModelWriter(
        graph, {name: form}, dict(model.about), resources=model.home / RESOURCES, batches=lambda: batches
    )
    return Exported(deviation=writer.write(output, compare=True), inputs=told)


def _inputs(model: ModelDir, scenario: Scenario, graph: Graph) -> tuple[list[Arrays], str]:
    """Batches to compare answers for, and what they are."""
    made = [{name: _random(spec, size) for name, spec in graph.inputs.items()} for size in BATCHES]
    try:
        data = scenario.val_data()
        if data is None:
            return made, "random inputs, since there is no validation data"
        with open_pipeline(
            scenario, data, "val_data()", mode=Mode.EVALUATION, seed=model.seed, preload="off"
        ) as pipeline:
            dataset = pipeline.dataset()
            found = some_batches(dataset)
            fits = dataset.specs()[0].keys() == graph.inputs.keys()
    except (AipError, OSError) as error:
        reason = str(error).rstrip(".")
        return made, f"random inputs, since the validation data cannot be read ({reason})"
    return (found, "validation samples") if fits else (made, "random inputs, since the validation data has others")


def _random(spec: ColumnSpec, samples: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(0)
    shape = (samples, *(ANY if size is None else size for size in spec.shape))
    dtype = np.dtype(spec.dtype)
    # Whole numbers may be indices of a table of any size, or lengths.
    return (
        generator.normal(size=shape).astype(dtype)
        if dtype.kind == "f"
        else generator.integers(0, 2, shape).astype(dtype)
    )


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> None:
    for name, array in ours.items():
        one, other = array.astype(np.float64), theirs[name].astype(np.float64)
        scale = float(np.abs(one).max(initial=1.0))
        found = float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf
        if not found <= TOLERANCE * scale:
            raise TrainingError(
                f"The model that the scenario builds now does not answer like {path}: {name or 'its output'} differs "
                f"by {found:.3g}; use the version that trained it."
            )
