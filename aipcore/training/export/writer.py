"""The writer of a run's model: all formats, repeatedly, with the current weights."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from aipcore.errors import FormatError, ScenarioError, TrainingError, sentence
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.scenario.model import Graph
from aipcore.scenario.preprocessing import FOLDER as PREPROCESSING
from aipcore.scenario.preprocessing import RECORD
from aipcore.scenario.record import ABOUT_FILE, ALWAYS_WRITTEN, MODEL_FORMAT
from aipcore.training.checkpoint.atomic import replaced_dir
from aipcore.training.export.formats import Arrays, Format
from aipcore.training.export.saved_model import SIGNATURE, Exportable, ServedModule, variables_of
from aipcore.training.export.verify import write_format


class ModelWriter:
    """A writer of a model with its current weights, for repeated use. The graph is traced and saved only once.

    A SavedModel stores its weights in separate files, so writing the same graph again replaces only these.

    Args:
        graph: the model.
        formats: the formats to write, by name.
        about: values to record beside the model.
        further: further graphs, as additional signatures of the SavedModel, by name.
        resources: a folder of files that belong to the model, if any.
        batches: returns inputs for comparisons of outputs, arrays of shape [batch, ...] by name.
    """

    def __init__(
        self,
        graph: Graph,
        formats: Mapping[str, Format],
        about: dict[str, Any],
        *,
        further: Mapping[str, Graph] | None = None,
        resources: Path | None = None,
        batches: Callable[[], Sequence[Arrays]] = list,
    ):
        self._graph = graph
        self._further = dict(further or {})
        self._resources = resources
        self._formats = dict(formats)
        self._about = about
        self._batches = batches
        self._module: ServedModule | None = None
        self._written: Path | None = None

    def check(self) -> None:
        """Trace the serving function, and write all formats except the SavedModel once, to a temporary folder.

        Raises:
            ScenarioError: the model cannot be served.
            FormatError: a format does not support it, or its outputs differ.
        """
        try:
            self._module = ServedModule(self._graph, self._further)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise ScenarioError(f"The model trains but cannot be exported: {sentence(error)}") from error
        others = {name: form for name, form in self._formats.items() if name != ALWAYS_WRITTEN}
        if not others:
            return
        batches = self._batches()
        with tempfile.TemporaryDirectory(prefix="aip-") as folder:
            for name, form in others.items():
                write_format(name, form, self._exportable(), Path(folder), batches)

    def write(self, path: Path, note: Mapping[str, Any] | None = None, *, compare: bool = False) -> float:
        """Write the model with its current weights in every format to the folder `path`, replacing it atomically.

        In addition to the given values, `aip.json` records the variable paths of the SavedModel's `state` under
        `variables`, and the written formats under `formats`.

        Args:
            path: the folder.
            note: values to record in its `aip.json`, in addition to the identity of the run.
            compare: if True, read back each format and compare its outputs with the model's.

        Returns:
            The largest deviation of an output.

        Raises:
            FormatError: a format does not support the model, or its outputs differ; other formats have been written, if
                any.
            TrainingError: the disk is full or not writable; the earlier content of `path` is unchanged.
        """
        failed: dict[str, FormatError] = {}
        worst = 0.0
        batches = self._batches() if compare else []
        try:
            with replaced_dir(path) as fresh:
                for name, form in self._formats.items():
                    try:
                        worst = max(worst, write_format(name, form, self._exportable(), fresh, batches))
                    except FormatError as error:
                        failed[name] = error
                if len(failed) == len(self._formats):
                    raise _joined(failed)
                if self._resources is not None and self._resources.is_dir():
                    shutil.copytree(self._resources, fresh / RESOURCES)
                preprocessing = self._served().preprocessing
                about = {
                    "format": MODEL_FORMAT,
                    **self._about,
                    **({} if preprocessing is None else {RECORD: preprocessing.save(fresh / PREPROCESSING)}),
                    **(note or {}),
                    "formats": [name for name in self._formats if name not in failed],
                    "variables": list(variables_of(self._graph, self._further)),
                }
                (fresh / ABOUT_FILE).write_text(json.dumps(about, indent=1), encoding="utf-8")
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
            raise TrainingError(
                f"The model could not be written to {path} ({reason}). Free disk space, or "
                "fix the permissions of the folder."
            ) from error
        self._written = path
        if failed:
            raise _joined(failed)
        return worst

    def _exportable(self) -> Exportable:
        return Exportable(graph=self._graph, further=self._further, save_model=self._save_model, served=self._served)

    def _served(self) -> ServedModule:
        if self._module is None:
            self._module = ServedModule(self._graph, self._further)
        return self._module

    def _save_model(self, path: Path) -> None:
        module = self._served()
        if self._written is not None and (self._written / "saved_model.pb").is_file():
            for name in ("saved_model.pb", "fingerprint.pb"):
                _link(self._written / name, path / name)
            (path / "assets").mkdir(exist_ok=True)
            parts = {"state": module.state, "tables": module.tables}
            if module.preprocessing is not None:
                parts["preprocessing"] = module.preprocessing
            tf.train.Checkpoint(**parts).write(str(path / "variables" / "variables"))
        else:
            tf.saved_model.save(module, str(path), signatures={SIGNATURE: module.serve, **module.further})


def _joined(failed: Mapping[str, FormatError]) -> FormatError:
    first, *others = failed.values()
    return FormatError(" ".join(map(str, failed.values()))) if others else first


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
