"""The preprocessing of a run: adapted once, the same on all hosts, and the one that its checkpoints were made with."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aipcore.data.dataset import Dataset
from aipcore.data.strings import STRING
from aipcore.distributed.process_group import ProcessGroup
from aipcore.errors import DataError, TrainingError, UsageError
from aipcore.files import refuse_links
from aipcore.scenario.adaptation import adapted_preprocessing
from aipcore.scenario.author_names import has_loss_values
from aipcore.scenario.preprocessing import FOLDER, RECORD, SPECS_FILE, Preprocessing, digest_of, read_preprocessing
from aipcore.scenario.scenario import Scenario
from aipcore.training.checkpoint.weights import open_variables


def shared_preprocessing(scenario: Scenario, dataset: Dataset, processes: ProcessGroup) -> Preprocessing | None:
    """Return the preprocessing of a scenario, adapted by the chief and sent to the other processes.

    Args:
        scenario: the scenario.
        dataset: the training samples of this process; only the chief reads them.
        processes: the processes of the run.

    Raises:
        ScenarioError: it cannot be adapted to the data.
    """
    if processes.count == 1:
        return adapted_preprocessing(scenario, dataset)
    made = adapted_preprocessing(scenario, dataset) if processes.is_chief else None
    with tempfile.TemporaryDirectory(prefix="aip-") as place:
        folder = Path(place) / FOLDER
        files: dict[str, Any] = {}
        if made is not None:
            made.save(folder)
            files = {
                path.relative_to(folder).as_posix(): np.frombuffer(path.read_bytes(), np.uint8)
                for path in folder.rglob("*")
                if path.is_file()
            }
        received = processes.broadcast_arrays("the preprocessing", files)
        if processes.is_chief or not received:
            return made
        for name, content in received.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.tobytes())
        found = read_preprocessing(folder)
        found.folder = None
        return found


def load_preprocessing(folder: Path, record: Mapping[str, Any]) -> Preprocessing | None:
    """Read the preprocessing of a run or a model; None if it has none.

    Args:
        folder: the folder of the run or the model.
        record: the record of its checkpoint or model, with the digest of the preprocessing if there is any.

    Raises:
        UsageError: it is missing or damaged, or another one than recorded.
    """
    digest, folder = record.get(RECORD), folder / FOLDER
    if digest is None:
        return None
    if not (folder / SPECS_FILE).is_file():
        raise UsageError(f"The preprocessing {folder} is missing. Restore it from another copy of the folder.")
    refuse_links(folder, reading=True)
    try:
        if digest_of(folder) != digest:
            raise ValueError("it is not the one that the model was trained with")
        open_variables(folder)
        found = read_preprocessing(folder)
    except Exception as error:
        # A damaged file causes many kinds of errors in TensorFlow.
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise UsageError(f"The preprocessing {folder} cannot be used ({reason}). Use another copy.") from error
    found.digest = str(digest)
    return found


def refuse_string_targets(scenario: Scenario, dataset: Dataset, origin: str) -> None:
    """Refuse data whose targets are only strings, unless the scenario computes its losses itself.

    Raises:
        DataError: they are strings.
    """
    own = bool(scenario.updates) or has_loss_values(type(scenario))
    targets = dataset.specs()[1]
    if targets and all(spec.dtype == STRING for spec in targets.values()) and not own:
        raise DataError(string_targets(next(iter(targets)), origin))


def string_targets(name: str, origin: str) -> str:
    """Return the error for a target of strings."""
    what = f"The target {name!r}" if name else "The target"
    return (
        f"{what} of {origin} is a string, which Keras losses do not accept. Convert it to a number in processors(), "
        "for example to its index in a list of all classes."
    )


def require_recorded(record: Mapping[str, Any], preprocessing: Preprocessing | None) -> None:
    """Check that a run has the preprocessing that a checkpoint was made with.

    Args:
        record: the record of the checkpoint.
        preprocessing: the preprocessing of the run, or None.

    Raises:
        TrainingError: it has another one.
    """
    before = record.get(RECORD)
    if before == (None if preprocessing is None else preprocessing.digest or ""):
        return
    if before is None:
        raise TrainingError(
            "The scenario returns preprocessing(), but the checkpoint was made without it. Start a new run with aip "
            "train, or remove the method."
        )
    raise TrainingError(
        "The checkpoint was made with other preprocessing than this run has. Resume with aip resume or aipcore.resume, "
        "which restore it."
    )
