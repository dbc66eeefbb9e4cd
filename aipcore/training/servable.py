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
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.scenario.graph import BARE_INPUT, BARE_OUTPUT, Graph
from aipcore.scenario.objective import mask_of
from aipcore.scenario.recorded import ABOUT_FILE, MODEL_FORMAT
from aipcore.training.atomic import replaced_dir
from aipcore.training.variable_names import unique_names

SIGNATURE = "serving_default"

OUTPUT, MASK, PENALTY = "output/", "mask/", "penalty"
"""What the names in the result of `_Module.score` begin with, and the name of the penalty."""


class _Module(tf.Module):  # type: ignore[misc]
    """What the SavedModel holds: the model's variables, the function that serves, and if need be one that scores.

    A signature gives nothing but outputs. What losses need besides them, the penalty of regularizers and the masks that
    Keras attaches to outputs, comes from `score`, which is there only if the model has any.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.state = [variable.value for variable in graph.model.variables]
        specs = {
            name or BARE_INPUT: tf.TensorSpec((None, *spec.shape), spec.dtype, name=name or BARE_INPUT)
            for name, spec in graph.inputs.items()
        }

        needed: list[bool] = []

        def run(inputs: dict[str, Any]) -> dict[str, Any]:
            return graph({name: inputs[name or BARE_INPUT] for name in graph.inputs}, training=False)

        def serve(**inputs: Any) -> dict[str, Any]:
            outputs = run(inputs)
            needed.append(bool(graph.model.losses) or any(mask_of(value) is not None for value in outputs.values()))
            return {name or BARE_OUTPUT: value for name, value in outputs.items()}

        def score(**inputs: Any) -> dict[str, Any]:
            outputs = run(inputs)
            masks = {name: mask_of(value) for name, value in outputs.items()}
            return {
                PENALTY: graph.penalty(),
                **{f"{OUTPUT}{name or BARE_OUTPUT}": value for name, value in outputs.items()},
                **{f"{MASK}{name or BARE_OUTPUT}": mask for name, mask in masks.items() if mask is not None},
            }

        self.serve = tf.function(serve, autograph=False).get_concrete_function(**specs)
        if any(needed):
            self.score = tf.function(score, autograph=False).get_concrete_function(**specs)


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

    Args:
        graph: the model.
        exporters: by name, what writes it.
        about: what to record beside it.
        resources: a folder of files that belong to the model, if there are any.
    """

    def __init__(
        self,
        graph: Graph,
        exporters: Mapping[str, Callable[[Exportable, Path], None]],
        about: dict[str, Any],
        *,
        resources: Path | None = None,
    ):
        self._graph = graph
        self._resources = resources
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

        `aip.json` records, beside what is to be recorded, under `variables` the paths of the SavedModel's `state`.

        Raises:
            TrainingError: the disk is full or not writable; what was at `path` before is untouched.
        """
        try:
            with replaced_dir(path) as fresh:
                exportable = Exportable(graph=self._graph, save_model=self._save_model)
                for export in self._exporters.values():
                    export(exportable, fresh)
                if self._resources is not None and self._resources.is_dir():
                    shutil.copytree(self._resources, fresh / RESOURCES)
                variables = unique_names(each.path for each in self._graph.model.variables)
                about = {"format": MODEL_FORMAT, **self._about, **(note or {}), "variables": variables}
                (fresh / ABOUT_FILE).write_text(json.dumps(about, indent=1), encoding="utf-8")
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
