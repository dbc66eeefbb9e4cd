"""The errors aip raises on purpose: one sentence each, saying what was given, what is allowed and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

IN_GRAPH = "defined at (most recent call last)"
"""How TensorFlow begins the lines that made the operation that failed in a compiled function, each a `FRAME`."""

FRAME = r'File "([^"\n]+)", line (\d+), in (\S+)'


TRACEBACK = "(--debug shows the traceback)"
"""The end of a sentence on an error whose traceback is of use."""


class AipError(Exception):
    """Root of every error that aip raises on purpose; the command line prints it without a traceback.

    The message is one sentence for the user. `exit_code` is what `aip` returns to the shell.
    """

    exit_code = 1


class UsageError(AipError):
    """The user gave something that is not allowed; nothing was computed or written."""

    exit_code = 2


class ParamsError(UsageError):
    """A parameter is unknown, misplaced, missing, or has a value that is not allowed."""


class PluginError(UsageError):
    """A plugin is unknown, broken, disabled, or registered twice."""


class ScenarioError(UsageError):
    """A scenario could not be found, loaded, or used as written."""


class DataError(AipError):
    """The data set is empty, or a sample does not fit the scenario."""


class TrainingError(AipError):
    """Training cannot go on, and the message says why and what was saved."""


class FolderMovedError(TrainingError):
    """The folder of a run is no longer where it was when the run began.

    Attributes:
        found: where it is now, or None if it was deleted or cannot be found.
    """

    def __init__(self, path: Path, found: Path | None) -> None:
        end = f"Resume the run there: aip resume {found}" if found else "Nothing more is written."
        where = f"was moved to {found}" if found else "was deleted, or moved to where it cannot be found"
        super().__init__(f"The folder {path} of this run {where}, so the run ends. {end}")
        self.found = found


class FormatError(TrainingError):
    """A model cannot be written in a format, or what was written does not answer like it; no such file is left."""


class Terminated(KeyboardInterrupt):
    """A second SIGTERM: it ends whatever Ctrl-C ends, and only the exit code is another."""


class AuthorError(AipError):
    """An exception of the author's own code, such as `Scenario.build`; its cause is the original."""


def sentence(error: BaseException) -> str:
    """Return an exception on one line."""
    # Keras prints in bold and appends all arguments of the call. TensorFlow begins with the lines of an operation.
    text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[0]
    text = re.sub(rf"^.*{FRAME}", "", text, flags=re.DOTALL) if IN_GRAPH in text else text
    # The names of nodes and kernels tell an author nothing.
    text = re.sub(r"\{\{\w+ \S+\}\} *|\s*\[(\[|Op:).*", "", " ".join(text.split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def author_errors() -> Iterator[None]:
    """Raise an exception of the author's own code as an `AuthorError` that names its line; for `with`, or above `def`.

    Raises:
        AuthorError: the exception comes from the author's code, or from an operation of the author's model.
    """
    try:
        yield
    except AipError:
        raise
    except Exception as error:
        own = author_error(error)
        if own is None:
            raise
        raise own from error


@contextmanager
def python_arguments() -> Iterator[None]:
    """Name an option in an error as the argument of a Python function; for `with`, or above `def`."""
    try:
        yield
    except UsageError as error:
        if "--trust" not in str(error):
            raise
        raise type(error)(str(error).replace("--trust", "trust=True")) from error


def author_error(error: Exception) -> AuthorError | None:
    """Return an exception of the author's own code as an `AuthorError`; None if it is none."""
    if type(error).__name__ == "ResourceExhaustedError":
        return AuthorError(f"The memory of the device is exhausted ({sentence(error)}). Lower --train.batch_size.")
    line = author_line(error)
    if line is not None:
        return AuthorError(f"{line}: {sentence(error)}")
    found = re.search(r"\{\{node (\S+/[^}\s]+)\}\}|when calling (\w+)\.call\(\)", str(error))
    if found is None:
        return None
    where = f"operation {found[1]}" if found[1] else f"layer {found[2]}"
    return AuthorError(f"The model failed in its {where}: {sentence(error)}. Check what the layer is given.")


def located_sentence(error: BaseException) -> str:
    """Return an exception on one line, with the author's line that it comes from, if there is one."""
    line = author_line(error)
    return sentence(error) if line is None else f"{sentence(error)} ({line})"


def author_line(error: BaseException) -> str | None:
    """Return the innermost line of the author's own that aip called, as `FILE, line N, in FUNCTION`; None without one.

    The author's own is what lies outside of Python itself, installed packages and aip: a scenario file, say, a
    notebook's cell, or a package that is being written.
    """
    import traceback

    frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    text = str(error)
    made = re.findall(FRAME, text) if IN_GRAPH in text else []
    return _innermost([(file, int(line), name) for file, line, name in made]) or _innermost(frames)


def _innermost(frames: Iterable[tuple[str, int, str]]) -> str | None:
    found = None
    called = False
    for file, line, name in frames:
        if _is_aip(file):
            called = True
        elif called and _is_authors(file, line):
            found = f"{file}, line {line}, in {name}"
    return found


def defined_at(function: Callable[..., Any]) -> str:
    """Return the first line of a function as `FILE, line N`."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return "built in" if code is None else f"{code.co_filename}, line {code.co_firstlineno}"


def _is_aip(file: str) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in _package_folders())


@cache
def _package_folders() -> list[Path]:
    from importlib.util import find_spec

    specs = [find_spec(name) for name in ("aipcore", "aip_plugins")]
    return [Path(path).resolve() for spec in specs if spec for path in spec.submodule_search_locations or ()]


def _is_authors(file: str, line: int) -> bool:
    import linecache
    import sys

    path = Path(file).resolve()
    if not path.is_file():
        # The cell of a notebook; attrs keeps the source of what it makes in the same place.
        return bool(linecache.getline(file, line)) and not file.startswith("<attrs generated")
    # Environments can stand on top of one another: each has such a folder.
    if {"site-packages", "dist-packages"} & set(path.parts) or path.name.startswith("__autograph_generated_file"):
        return False
    return not any(path.is_relative_to(folder) for folder in _installed_folders(tuple(sys.path)))


@cache
def _installed_folders(entries: tuple[str, ...]) -> list[Path]:
    """The folders of Python itself and of installed packages; samples that cannot be read ask for them often."""
    import sysconfig

    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    folders += [entry for entry in entries if entry and next(Path(entry).glob("*.dist-info"), None)]
    return [Path(folder).resolve() for folder in folders]
