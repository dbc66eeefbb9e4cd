"""Export of a trained model through any exporter, with a comparison of the outputs before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy.typing as npt

from aipcore.data.processor import Mode
from aipcore.data.sample import ColumnSpec
from aipcore.errors import AipError, TrainingError, UsageError
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.prediction.data import open_pipeline
from aipcore.prediction.loaded_model import LoadedModel, load_graph
from aipcore.prediction.locate import ModelDir
from aipcore.prediction.rebuilt_model import Rebuilt, rebuild
from aipcore.scenario.model import Graph, inputs_of, signatures_of
from aipcore.scenario.preprocessing import RECORD
from aipcore.scenario.record import DEFAULT_GRAPH
from aipcore.scenario.scenario import Scenario
from aipcore.training.export.formats import Format
from aipcore.training.export.verify import deviation, device_kind, random_batches, some_batches, tolerance_for
from aipcore.training.export.writer import ModelWriter

Arrays = dict[str, npt.NDArray[Any]]

TOLERANCE = 1e-4
"""Largest allowed relative difference of outputs. Other kernels sum in another order."""


@attrs.frozen(kw_only=True)
class Changed:
    """Changed parameters of an exported model.

    Attributes:
        scenario: scenario made with the changed parameters.
        params: changed parameters as a nested mapping, by group.
        options: options as typed by the user.
    """

    scenario: Scenario
    params: Mapping[str, Any]
    options: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Exported:
    """The result of an export.

    Attributes:
        deviation: largest difference between the outputs of the model and of the export, relative to the largest
            absolute value of the output or to 1 if that is greater.
        inputs: description of the compared inputs, as part of a sentence.
    """

    deviation: float
    inputs: str


def export_model(
    model: ModelDir,
    scenario: Scenario,
    form: Format,
    name: str,
    output: Path,
    *,
    graph: str = DEFAULT_GRAPH,
    changed: Changed | None = None,
) -> Exported:
    """Build the Keras model of a model on disk, and write it in another format.

    The outputs of the Keras model are compared with those of the model on disk (for a checkpoint, the weights are
    compared one by one). The outputs of the export are then compared with those of the Keras model. Both comparisons
    use validation samples, or random inputs without validation data.

    Args:
        model: model to export.
        scenario: scenario made with the parameters of the model.
        form: format, from an exporter plugin.
        name: name of the format.
        output: new or empty folder.
        graph: name of one of the scenario's export graphs, to export only this graph.
        changed: changed parameters to build the model with. The weights stay the same.

    Raises:
        UsageError: the weights are damaged or do not fit the model that the scenario builds, or there is no such graph.
        FormatError: the format cannot express the model, or the outputs of the export differ. The output is removed.
        TrainingError: the outputs of the two models differ, or the folder cannot be written. The output is removed.
    """
    built = rebuild(model, scenario)
    known = _read_samples(model, scenario)
    if model.kind == "model":
        stored, rebuilt = LoadedModel(load_graph(model, scenario)), LoadedModel(built.graph)
        tolerance = tolerance_for(built.graph, TOLERANCE, device_kind())
        for inputs in _batches(known, built.graph)[0]:
            _compare(stored.run(inputs)[0], rebuilt.run(inputs)[0], model.path, tolerance)
    about = {key: value for key, value in model.about.items() if key not in ("prediction_signature", "graphs", RECORD)}
    if changed is not None:
        known = _read_samples(model, changed.scenario)
        built = rebuild(model, changed.scenario, changed=_changed_inputs(model, known, changed.options))
        about["params"] = {**model.about["params"], **changed.params}
    about |= signatures_of(built.trained, built.graph, built.further)
    chosen, further = built.graph, built.further
    if graph != DEFAULT_GRAPH:
        chosen, further = _further(built, graph, scenario), {}
        about["graph"] = graph
    batches, told = _batches(known, chosen)
    writer = ModelWriter(
        chosen, {name: form}, about, further=further, resources=model.home / RESOURCES, batches=lambda: batches
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {output} cannot be written ({error.strerror}). Choose another folder.") from error
    return Exported(deviation=writer.write(output, compare=True), inputs=told)


def _further(built: Rebuilt, name: str, scenario: Scenario) -> Graph:
    if name not in built.further:
        listed = ", ".join([DEFAULT_GRAPH, *built.further])
        raise UsageError(f"{type(scenario).__name__} has no export graph {name!r}. Its graphs are {listed}.")
    return built.further[name]


@attrs.frozen(kw_only=True, eq=False)
class _Samples:
    """Some validation samples.

    Attributes:
        batches: inputs of the samples, arrays of shape [batch, ...] by name.
        specs: specs of all inputs in the data.
        missing: reason why there are no samples; empty if there are some.
    """

    batches: list[Arrays]
    specs: Mapping[str, ColumnSpec]
    missing: str = ""


def _read_samples(model: ModelDir, scenario: Scenario) -> _Samples:
    try:
        data = scenario.val_data()
        if data is None:
            return _Samples(batches=[], specs={}, missing="there is no validation data")
        with open_pipeline(
            scenario,
            data,
            "val_data()",
            mode=Mode.EVALUATION,
            seed=model.seed,
            again=scenario.val_data,
            preload="off",
        ) as pipeline:
            dataset = pipeline.dataset()
            return _Samples(batches=some_batches(dataset), specs=dataset.specs()[0])
    except (AipError, OSError) as error:
        reason = str(error).rstrip(".")
        return _Samples(batches=[], specs={}, missing=f"the validation data cannot be read ({reason})")


def _batches(known: _Samples, graph: Graph) -> tuple[list[Arrays], str]:
    """Return batches for the comparison of outputs, and their description."""
    if not known.missing and graph.inputs.keys() <= known.specs.keys():
        return known.batches, "validation samples"
    return random_batches(graph.inputs), f"random inputs, because {known.missing or 'the validation data has others'}"


def _changed_inputs(model: ModelDir, known: _Samples, options: Iterable[str]) -> dict[str, ColumnSpec]:
    """Return the recorded inputs, with the sizes of the data under the changed parameters."""
    inputs = inputs_of(model.about["signature"])
    if RECORD in model.about:
        # The preprocessing determines them.
        return inputs
    for option in options:
        if known.missing and option.startswith("--data."):
            raise UsageError(
                f"{option} may change the model's inputs. They are read from the validation data, but {known.missing}. "
                "Make the validation data available."
            )
    return {name: _resized(spec, known.specs.get(name, spec)) for name, spec in inputs.items()}


def _resized(recorded: ColumnSpec, found: ColumnSpec) -> ColumnSpec:
    if len(recorded.shape) != len(found.shape):
        return recorded
    # An axis of variable length in the training data stays variable.
    pairs = zip(recorded.shape, found.shape, strict=True)
    return attrs.evolve(recorded, shape=tuple(old if None in (old, new) else new for old, new in pairs))


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path, tolerance: float) -> None:
    for name, array in ours.items():
        found = deviation(array, theirs[name])
        if not found <= tolerance:
            raise TrainingError(
                f"The scenario now builds a model with other outputs than {path}: {name or 'the output'} differs by "
                f"{found:.3g}. Use the version that trained the model."
            )
