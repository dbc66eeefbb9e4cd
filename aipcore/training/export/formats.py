"""The formats of exported models, built by exporter plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy.typing as npt

from aipcore.data.strings import STRING
from aipcore.errors import FormatError
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.records import ExporterParams
from aipcore.params import Choice
from aipcore.scenario.model import Graph
from aipcore.scenario.preprocessing import PreprocessedGraph, tables_of
from aipcore.training.export.saved_model import Exportable

Arrays = Mapping[str, npt.NDArray[Any]]


@attrs.frozen(kw_only=True, eq=False)
class Format:
    """A format with functions to write a model and to read it back.

    Attributes:
        write: writes the model into an existing folder.
        read: loads a folder as a function from arrays by input name to arrays by output name, see
            `ExporterRecord.load`; None if the format cannot be read back.
        tolerance: largest allowed deviation from the model's outputs, see `ExporterRecord.tolerance`.
    """

    write: Callable[[Exportable, Path], None]
    read: Callable[[Path], Callable[[Arrays], Arrays]] | None = None
    tolerance: float = 1e-4


def make_format(chosen: Choice[ExporterParams], plugins: PluginManager) -> Format:
    """Build the format of an exporter plugin from its parameters.

    Raises:
        PluginError: a module of the plugin cannot be imported, or the parameters belong to another plugin.
    """
    entry = plugins.entry("exporter", chosen.name)
    record: Any = entry.record
    tolerance = record.tolerance
    return Format(
        write=plugins.builder("exporter", chosen)(),
        read=None if record.load is None else plugins.load(entry, record.load),
        tolerance=plugins.load(entry, tolerance)(chosen.params) if isinstance(tolerance, str) else tolerance,
    )


def refuse_precisions(name: str, graph: Graph, precisions: Sequence[str]) -> None:
    """Reject models that compute in a precision without operators in a format. For use in exporters.

    Args:
        name: the name of the format.
        graph: the model.
        precisions: Keras' names of the unsupported types, such as `bfloat16`.

    Raises:
        FormatError: a layer of the model computes in one of them.
    """
    for layer in layers_of(graph.model):
        if layer.compute_dtype in precisions:
            raise FormatError(
                f"{name} cannot express a model that computes in {layer.compute_dtype}. Train with --trainer.precision "
                f"float32, or leave {name} out."
            )


def refuse_strings(name: str, graph: Graph, *, lookups_only: bool = False) -> None:
    """Reject models with strings or lookup tables, for formats without them. For use in exporters.

    Args:
        name: the name of the format.
        graph: the model.
        lookups_only: if True, inputs may be strings.

    Raises:
        FormatError: an input is a string, or a layer or the preprocessing has a lookup table.
    """
    parts = [graph.model, graph.preprocessing] if isinstance(graph, PreprocessedGraph) else [graph.model]
    strings = not lookups_only and any(spec.dtype == STRING for spec in graph.inputs.values())
    if strings or any(map(tables_of, parts)):
        what = "looks" if lookups_only else "takes strings or looks"
        raise FormatError(f"{name} cannot express a model that {what} up values in a vocabulary. Leave {name} out.")


def layers_of(model: Any) -> list[Any]:
    """Return all layers of a model, including nested ones."""
    return list(model._flatten_layers(include_self=False))
