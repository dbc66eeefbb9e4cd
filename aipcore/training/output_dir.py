"""The folder a run writes to: found, checked and claimed before anything is computed, never shared by two runs."""

from __future__ import annotations

import os
from pathlib import Path

from aipcore.errors import UsageError
from aipcore.files import refuse_link

RUN_FILES = ("params.json", "checkpoint", "best", "export", "train.log")
"""What marks a folder as that of a run."""

WRITTEN = frozenset(
    {*RUN_FILES, "run.json", "tensorboard", "resources", ".lock", ".run.json.new", ".params.json.new"}
    | {f".{name}.{end}" for name in ("best", "export") for end in ("new", "old")}
)
"""What a run writes at the top of its folder, callbacks aside."""


def choose_output_dir(given: Path | None, scenario: str) -> Path:
    """The folder a new run may write to; creates nothing.

    Args:
        given: the user's choice, or None for a fresh `runs/SCENARIO-N`.
        scenario: the scenario's name.

    Raises:
        UsageError: the folder holds a run already, is a file, or cannot be written to.
    """
    if given is None:
        number = 1
        while (path := Path("runs") / f"{scenario}-{number}").exists():
            number += 1
    else:
        path = given
    if path.exists() and not path.is_dir():
        raise UsageError(f"--trainer.output_dir {path} is a file: give a folder, existing or not.")
    refuse_links_of_run(path)
    found = [name for name in RUN_FILES if (path / name).exists()]
    if found:
        raise UsageError(
            f"--trainer.output_dir {path} already holds a run (it has {', '.join(found)}): "
            "give another folder, or move that one away."
        )
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"--trainer.output_dir {path} cannot be written, since {parent} may not be written to.")
    return path


def refuse_links_of_run(path: Path) -> None:
    """Refuse an existing folder in which a file or folder of a run is a link or not a regular file.

    Raises:
        UsageError: one is.
    """
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name in WRITTEN:
                    refuse_link(path, entry)


def claim_output_dir(path: Path) -> Path:
    """Creates the folder and marks it as this run's, failing if another run was faster.

    Raises:
        UsageError: it cannot be created, or another run just claimed it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / "train.log").open("x", encoding="utf-8"):
            pass
    except FileExistsError as error:
        raise UsageError(f"{path} was just claimed by another run: give another --trainer.output_dir.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): give another --trainer.output_dir.") from error
    return path
