"""The exceptions that aip raises on purpose. A message names what was given, what is allowed and the next step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

IN_GRAPH = "defined at (most recent call last)"
"""The marker before TensorFlow's traceback of the failed operation in a compiled function; each line is a `FRAME`."""

FRAME = r'File "([^"\n]+)", line (\d+), in (\S+)'


TRACEBACK = "--debug shows the traceback."
"""The last sentence of a message whose traceback is useful."""


class AipError(Exception):
    """Root of all errors that aip raises on purpose. The command line prints them without a traceback.

    The message is one sentence for the user. `exit_code` is the exit code of `aip`.
    """

    exit_code = 1


class UsageError(AipError):
    """Invalid input from the user. Nothing was computed or written."""

    exit_code = 2


class ParamsError(UsageError):
    """An unknown, misplaced or missing parameter, or a value that is not allowed."""


class PluginError(UsageError):
    """An unknown, broken, disabled or doubly registered plugin."""


class ScenarioError(UsageError):
    """A scenario that cannot be found, loaded or used as written."""


class DataError(AipError):
    """An empty dataset, or a sample that does not fit the scenario."""


class TrainingError(AipError):
    """A failure that stops training. The message names the cause and what was saved."""


class FolderMovedError(TrainingError):
    """A run folder that was moved or deleted during the run.

    Attributes:
        found: the current path of the folder; None if it was deleted or cannot be found.
    """

    def __init__(self, path: Path, found: Path | None) -> None:
        end = f"Resume it there: aip resume {found}" if found else "Nothing more is written."
        where = f"was moved to {found}" if found else "was deleted or moved to an unknown place"
        super().__init__(f"The run stops because its folder {path} {where}. {end}")
        self.found = found


class FormatError(TrainingError):
    """A model that a format cannot express, or an exported file with different outputs. The file is removed."""


class Terminated(KeyboardInterrupt):
    """A second SIGTERM. It acts like Ctrl-C, with another exit code."""


class AuthorError(AipError):
    """An exception raised by the author's own code, such as `Scenario.build`. Its cause is the original exception."""


def sentence(error: BaseException) -> str:
    """Return the message of an exception on one line."""
    # Keras adds bold type and all call arguments. TensorFlow puts the lines of an operation first.
    text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[0]
    text = re.sub(rf"^.*{FRAME}", "", text, flags=re.DOTALL) if IN_GRAPH in text else text
    # The names of nodes and kernels do not help an author.
    text = re.sub(r"\{\{\w+ \S+\}\} *|\s*\[(\[|Op:).*", "", " ".join(text.split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def with_traceback_hint(message: str) -> str:
    """Return a message with the sentence `TRACEBACK` at its end."""
    return f"{message.removesuffix('.')}. {TRACEBACK}"


@contextmanager
def author_errors() -> Iterator[None]:
    """Convert an exception of the author's code to an `AuthorError` that names its line. Context manager or decorator.

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
    """Rewrite command-line options in an error as Python arguments. Context manager or decorator."""
    try:
        yield
    except UsageError as error:
        if "--trust" not in str(error):
            raise
        raise type(error)(str(error).replace("--trust", "trust=True")) from error


def author_error(error: Exception) -> AuthorError | None:
    """Return an exception of the author's own code as an `AuthorError`; None for other exceptions."""
    if type(error).__name__ == "ResourceExhaustedError":
        return AuthorError(f"The device is out of memory ({sentence(error)}). Lower --train.batch_size.")
    line = author_line(error)
    if line is not None:
        return AuthorError(f"{line}: {sentence(error)}")
    found = re.search(r"\{\{node (\S+/[^}\s]+)\}\}|when calling (\w+)\.call\(\)", str(error))
    if found is None:
        return None
    where = f"operation {found[1]}" if found[1] else f"layer {found[2]}"
    return AuthorError(f"The model failed in its {where}: {sentence(error)}. Check the inputs of the layer.")


def located_sentence(error: BaseException) -> str:
    """Return the message of an exception on one line, with the author's line that raised it, if there is one.

    A sentence of aip needs neither its class nor a line. It is returned without its last period.
    """
    if isinstance(error, AipError):
        return " ".join(str(error).split()).removesuffix(".")
    line = author_line(error)
    return sentence(error) if line is None else f"{sentence(error)} ({line})"


def author_line(error: BaseException) -> str | None:
    """Return the innermost line of the author's code that aip called, as `FILE, line N, in FUNCTION`, or None.

    The author's code is all code outside Python, the installed packages and aip: for example a scenario file, a
    notebook cell or a package under development.
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
        # A notebook cell. attrs keeps the source of its generated methods in the same cache.
        return bool(linecache.getline(file, line)) and not file.startswith("<attrs generated")
    # Environments can be stacked, and each has such a folder.
    if {"site-packages", "dist-packages"} & set(path.parts) or path.name.startswith("__autograph_generated_file"):
        return False
    return not any(path.is_relative_to(folder) for folder in _installed_folders(tuple(sys.path)))


@cache
def _installed_folders(entries: tuple[str, ...]) -> list[Path]:
    """Return the folders of Python and of installed packages. Cached, since unreadable samples cause many lookups."""
    import sysconfig

    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    folders += [entry for entry in entries if entry and next(Path(entry).glob("*.dist-info"), None)]
    return [Path(folder).resolve() for folder in folders]
