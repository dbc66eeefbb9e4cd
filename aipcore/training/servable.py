"""Self-contained models: a TensorFlow SavedModel with a serving signature, which needs no aip to load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import tensorflow as tf

from aipcore.errors import ScenarioError, TrainingError
from aipcore.scenario.graph import BARE_INPUT, BARE_OUTPUT, Graph
from aipcore.training.atomic import replaced_dir

SIGNATURE = "serving_default"


class _Module(tf.Module):  # type: ignore[misc]
    """What the SavedModel holds: the model's variables and one function."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.state = [variable.value for variable in graph.model.variables]
        specs = {
            name or BARE_INPUT: tf.TensorSpec((None, *spec.shape), spec.dtype, name=name or BARE_INPUT)
            for name, spec in graph.inputs.items()
        }

        def serve(**inputs: Any) -> dict[str, Any]:
            named = {name: inputs[name or BARE_INPUT] for name in graph.inputs}
            return {name or BARE_OUTPUT: value for name, value in graph(named, training=False).items()}

        self.serve = tf.function(serve, autograph=False).get_concrete_function(**specs)


@attrs.frozen(kw_only=True, eq=False)
class Exportable:
    """A model that an exporter writes.

    Attributes:
        graph: the model, its inputs and outputs by name.
        save_model: writes it as a TensorFlow SavedModel into an existing empty folder.
    """

    graph: Graph
    save_model: Callable[[Path], None]


class ModelWriter:
    """Writes a model again and again with its current weights; the graph is traced and saved only once.

    A SavedModel keeps its weights in files of their own, so that a second one of the same graph needs only these.
    """

    def __init__(
        self, graph: Graph, exporters: Mapping[str, Callable[[Exportable, Path], None]], about: dict[str, Any]
    ):
        self._graph = graph
        self._exporters = dict(exporters)
        self._about = about
        self._module: _Module | None = None
        self._written: Path | None = None

    def check(self) -> None:
        """Traces the serving function, as the first `write` would.

        Raises:
            ScenarioError: the model cannot be served.
        """
        try:
            self._module = _Module(self._graph)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())
            raise ScenarioError(f"The model trains but cannot be exported: {reason}") from error

    def write(self, path: Path, note: Mapping[str, Any] | None = None) -> None:
        """Writes the model with its current weights in every format to the folder `path`, replacing it as a whole.

        Args:
            path: the folder.
            note: what to record in its `aip.json` beside what the run is.

        Raises:
            TrainingError: the disk is full or not writable; what was at `path` before is untouched.
        """
        try:
            with replaced_dir(path) as fresh:
                exportable = Exportable(graph=self._graph, save_model=self._save_model)
                for export in self._exporters.values():
                    export(exportable, fresh)
                (fresh / "aip.json").write_text(json.dumps({**self._about, **(note or {})}, indent=1), encoding="utf-8")
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
            raise TrainingError(
                f"The model could not be written to {path} ({reason}): make room or mend the folder's permissions."
            ) from error
        self._written = path

    def _save_model(self, path: Path) -> None:
        if self._module is None:
            self._module = _Module(self._graph)
        if self._written is not None and (self._written / "saved_model.pb").is_file():
            for name in ("saved_model.pb", "fingerprint.pb"):
                _link(self._written / name, path / name)
            (path / "assets").mkdir(exist_ok=True)
            tf.train.Checkpoint(state=self._module.state).write(str(path / "variables" / "variables"))
        else:
            tf.saved_model.save(self._module, str(path), signatures={SIGNATURE: self._module.serve})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
