"""Scenarios whose samples are files, named by list files, folders or patterns."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, ClassVar

import attrs

from aipcore.data.params import LavDataParams, TrainDataParams, ValDataParams
from aipcore.data.sample import Sample
from aipcore.errors import DataError, UsageError
from aipcore.files import expanded
from aipcore.params import field, group, params
from aipcore.scenario.params import DataParams, ScenarioParams
from aipcore.scenario.scenario import Scenario

LONGEST_LINE = 65_536
"""The most bytes of a line in a list file. No operating system has longer paths."""

LISTS_HELP = "A list is a text file with one path per line, or a folder with all files below it."


@params
class ListFileData(DataParams):
    """The files to predict."""

    files: tuple[str, ...] = field(
        (), help="Files to predict. They are paths, folders, or patterns such as 'scans/*.png'."
    )


@params
class ListTrainParams(TrainDataParams):
    """The training files and their batching."""

    lists: tuple[Path, ...] = field((), help=f"Lists of training files. {LISTS_HELP}")


@params
class ListValParams(ValDataParams):
    """The validation files and their batching."""

    lists: tuple[Path, ...] = field((), help=f"Lists of validation files. {LISTS_HELP}")


@params
class ListLavParams(LavDataParams):
    """The lists of files for LAV, each evaluated separately, and their batching."""

    lists: tuple[Path, ...] = field(
        (),
        help=f"Lists of files for LAV, each evaluated separately. {LISTS_HELP} Default: the validation files.",
    )


@params
class ListFileParams(ScenarioParams):
    """Parameters of a scenario whose samples are files."""

    data: ListFileData = group(ListFileData, help="Data and its processing.")
    train: ListTrainParams = group(ListTrainParams, help="Training files and their batching.")
    val: ListValParams = group(ListValParams, help="Validation files and their batching.")
    lav: ListLavParams = group(ListLavParams, help="Files of LAV (the extended validation) and their batching.")


@attrs.frozen(eq=False)
class FileSource:
    """Samples read from files on demand.

    Attributes:
        paths: one path per sample.
        scenario: the scenario that reads the samples.
        targets: True if targets are read too.
    """

    paths: Sequence[Path]
    scenario: ListFileScenario
    targets: bool

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return self.scenario.read(self.paths[index], targets=self.targets)


class ListFileScenario(Scenario):
    r"""A scenario whose samples are files. An author defines `read`, or `source`, instead of the data methods.

    A list file is UTF-8 text with one path per line, relative to the folder of the list file. Lines end with `\n` or
    `\r\n` only. If the whole line is the path of a file, it names that file. Otherwise whitespace at both ends is
    stripped, `~` and `~user` are home folders, and a line that begins with `#` is a comment. Empty lines are skipped.

    `--train.lists a.txt b.txt --val.lists c.txt --lav.lists d.txt e.txt` select the lists. Each list of `lav` has its
    own results.

    Attributes:
        suffixes: suffixes of the files to read from a folder, in lower case; empty: all files.
    """

    params_class = ListFileParams
    suffixes: ClassVar[tuple[str, ...]] = ()

    def read(self, path: Path, *, targets: bool) -> Sample:
        """Read a sample.

        Args:
            path: the file of the sample.
            targets: True if targets are needed, as in training and validation.
        """
        raise TypeError(f"{type(self).__name__} must define read(path, *, targets).")

    def own_train_data(self) -> Any:
        """Return the training data if no lists are given, in the form of `train_data`; None: lists are required."""
        return None

    def own_val_data(self) -> Any:
        """Return the validation data if neither `train.lists` nor `val.lists` are given."""
        return None

    def check(self) -> None:
        """Check that list files and folders exist.

        Raises:
            UsageError: a list cannot be read or is empty, or no lists are given.
        """
        if not self.params.train.lists and self.own_train_data() is None:
            raise UsageError(f"{type(self).__name__} has no built-in data. Pass --train.lists FILE ...")
        for group_name in ("train", "val", "lav"):
            for entry in getattr(self.params, group_name).lists:
                self.paths([entry], group_name)

    def paths(self, entries: Sequence[Path], group_name: str) -> list[Path]:
        """Return the files that lists and folders name.

        Raises:
            UsageError: a list cannot be read or names no file.
        """
        found: list[Path] = []
        for entry in entries:
            is_dir = _is(Path.is_dir, entry)
            listed = _below(entry, self.suffixes) if is_dir else _listed(entry, group_name)
            if not listed:
                kinds = f"{' or '.join(self.suffixes)} files" if self.suffixes else "files"
                what = f"contains no {kinds}" if is_dir else "names no files"
                raise UsageError(f"--{group_name}.lists {entry} {what}. Use another list or folder.")
            found += listed
        return found

    def train_data(self) -> Any:
        """Return the files of `train.lists`, or the scenario's own data."""
        lists = self.params.train.lists
        return self._source(lists, "train") if lists else self.own_train_data()

    def val_data(self) -> Any:
        """Return the files of `val.lists`, or the scenario's own data if there are no lists at all."""
        if self.params.val.lists:
            return self._source(self.params.val.lists, "val")
        return None if self.params.train.lists else self.own_val_data()

    def lav_data(self) -> Mapping[str, Any] | None:
        """Return the files of each list of `lav.lists`, by list name without the suffix."""
        lists = self.params.lav.lists
        if not lists:
            return None
        names = [path.stem if len({other.stem for other in lists}) == len(lists) else str(path) for path in lists]
        return {name: self._source([path], "lav") for name, path in zip(names, lists, strict=True)}

    def predict_data(self) -> Any:
        """Return the files of `data.files`, without targets; the validation data if none are given."""
        if not self.params.data.files:
            return self.val_data()
        return self.source(matching_files(self.params.data.files, self.suffixes), targets=False)

    def source(self, paths: Sequence[Path], *, targets: bool) -> Any:
        """Return the samples of files. The default is one sample per file, read by `read` when it is needed.

        Override it for files that contain several samples. The result has one of the forms of `train_data`.

        Args:
            paths: the files.
            targets: True if targets are needed, as in training and validation.
        """
        return FileSource(paths, self, targets)

    def _source(self, lists: Sequence[Path], group_name: str) -> Any:
        return self.source(self.paths(lists, group_name), targets=True)


def matching_files(patterns: Sequence[str], suffixes: Sequence[str] = ()) -> list[Path]:
    """Return the files that paths, folders and patterns name, in this order; sorted within a pattern or folder.

    Args:
        patterns: the values of `--data.files`.
        suffixes: suffixes of the files to read from a folder, in lower case; empty: all files.

    Raises:
        DataError: an entry matches no file.
    """
    matching: list[Path] = []
    for pattern in patterns:
        path = Path(pattern) if _is(Path.exists, Path(pattern)) else expanded(pattern)
        if _is(Path.is_dir, path):
            found = _below(path, suffixes)
        elif _is(Path.exists, path) or not has_magic(pattern):
            found = [path] if _is(Path.is_file, path) else []
        else:
            # A pattern may begin at the root, which Path.glob does not accept.
            matches = sorted(glob(str(path), recursive=True))  # noqa: PTH207
            found = [Path(name) for name in matches if Path(name).is_file()]
        if not found:
            raise DataError(f"--data.files {pattern} matches no file. Check the path.")
        matching += found
    return matching


def _below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and (not suffixes or path.suffix.lower() in suffixes)
    ]


def _listed(path: Path, group_name: str) -> list[Path]:
    given = f"--{group_name}.lists {path}"
    found = []
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{given} is not a regular file. Use a text file or a folder.")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise UsageError(f"{given}, line {number} is too long for a path. Write one path per line.")
                sample = _sample(line, number, path.parent, given)
                if sample is not None:
                    found.append(sample)
    except OSError as error:
        raise UsageError(f"{given} cannot be read ({error.strerror}). Check the path.") from error
    return found


def _sample(line: bytes, number: int, folder: Path, given: str) -> Path | None:
    """Return the file that a line of a list names, or None for a comment or an empty line.

    Args:
        line: the bytes of the line.
        number: the line number, counted from 1.
        folder: the folder of the list.
        given: the name of the list in errors.

    Raises:
        UsageError: the file does not exist.
    """
    try:
        # Some editors write a byte order mark at the beginning of a file.
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{given} is not UTF-8 text. Use a text file with one path per line.") from error
    text = text.removesuffix("\n").removesuffix("\r")
    plain = text.strip()
    # The line is tried as a plain file name first: names may begin with `#` or `~`, and end with a blank.
    for name in (text, plain):
        if plain and _is(Path.is_file, folder / name):
            return folder / name
    if not plain or plain.startswith("#"):
        return None
    sample = folder / expanded(plain)
    if not _is(Path.is_file, sample):
        raise UsageError(f"{given}, line {number}: the file {sample} does not exist. Correct the list.")
    return sample


def _is(test: Callable[[Path], bool], path: Path) -> bool:
    try:
        return test(path)
    except OSError:  # A part of the path is too long, or its folder is not readable.
        return False
