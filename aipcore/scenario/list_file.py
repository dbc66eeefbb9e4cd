"""Scenarios whose samples are files, named by list files, folders or patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, ClassVar

import attrs

from aipcore.data.params import LavDataParams, TrainDataParams, ValDataParams
from aipcore.data.samples import Sample
from aipcore.errors import DataError, UsageError
from aipcore.params import field, group, params
from aipcore.scenario.params import DataParams, ScenarioParams
from aipcore.scenario.scenario import Scenario

LISTS_HELP = "Text files with the path of one sample a line, or folders, of which all files below are taken."


@params
class ListFileData(DataParams):
    """Which files to apply a model to."""

    files: tuple[str, ...] = field((), help="Files to predict: paths, folders, or patterns such as 'scans/*.png'.")


@params
class ListTrainParams(TrainDataParams):
    """Which files to learn from, and how they are batched."""

    lists: tuple[Path, ...] = field((), help=f"What to learn from. {LISTS_HELP}")


@params
class ListValParams(ValDataParams):
    """Which files to validate with, and how they are batched."""

    lists: tuple[Path, ...] = field((), help=f"What to validate with. {LISTS_HELP}")


@params
class ListLavParams(LavDataParams):
    """Which files to run the extended validation on, each list for itself, and how they are batched."""

    lists: tuple[Path, ...] = field(
        (), help=f"What to run the extended validation on; by default what to validate with. {LISTS_HELP}"
    )


@params
class ListFileParams(ScenarioParams):
    """Parameters of a scenario whose samples are files."""

    data: ListFileData = group(ListFileData, help="What data there is.")
    train: ListTrainParams = group(ListTrainParams, help="Which files to learn from, and how they are batched.")
    val: ListValParams = group(ListValParams, help="Which files to validate with, and how they are batched.")
    lav: ListLavParams = group(
        ListLavParams, help="Which files to run the extended validation (LAV) on, and how they are batched."
    )


@attrs.frozen(eq=False)
class FileSource:
    """Samples that are read when they are asked for.

    Attributes:
        paths: one for each sample.
        scenario: reads them.
        targets: whether the truth is read too.
    """

    paths: Sequence[Path]
    scenario: ListFileScenario
    targets: bool

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return self.scenario.read(self.paths[index], targets=self.targets)


class ListFileScenario(Scenario):
    """A scenario whose samples are files; an author defines `read` instead of the data methods.

    A list file holds one path a line, relative to the list file's folder; empty lines and lines that begin with `#` are
    left out. `--train.lists a.txt b.txt --val.lists c.txt --lav.lists d.txt e.txt` name them; each list of `lav` has
    results of its own.

    Attributes:
        suffixes: of the files that are taken from a folder, in lower case; none: all.
    """

    params_class = ListFileParams
    suffixes: ClassVar[tuple[str, ...]] = ()

    def read(self, path: Path, *, targets: bool) -> Sample:
        """Reads a sample.

        Args:
            path: of its file.
            targets: whether the truth is needed, as in training and validation.
        """
        raise TypeError(f"{type(self).__name__} must define read(path, *, targets).")

    def own_train_data(self) -> Any:
        """What to learn from if no lists are given, of the form of `train_data`; None: lists must be given."""
        return None

    def own_val_data(self) -> Any:
        """What to validate with if neither `train.lists` nor `val.lists` are given."""
        return None

    def check(self) -> None:
        """Looks for list files and folders that are not there.

        Raises:
            UsageError: one cannot be read, is empty, or none are given.
        """
        if not self.params.train.lists and self.own_train_data() is None:
            raise UsageError(f"{type(self).__name__} has no data of its own: give --train.lists FILE ...")
        for group_name in ("train", "val", "lav"):
            for entry in getattr(self.params, group_name).lists:
                self.paths([entry], group_name)

    def paths(self, entries: Sequence[Path], group_name: str) -> list[Path]:
        """The files that lists and folders name.

        Raises:
            UsageError: one cannot be read or names no file.
        """
        found: list[Path] = []
        for entry in entries:
            listed = _below(entry, self.suffixes) if entry.is_dir() else _listed(entry, group_name)
            if not listed:
                what = f"holds no {' or '.join(self.suffixes) or 'file'}" if entry.is_dir() else "names no file"
                raise UsageError(f"--{group_name}.lists {entry} {what}: give another one.")
            found += listed
        return found

    def train_data(self) -> Any:
        """The files of `train.lists`, or the scenario's own data."""
        lists = self.params.train.lists
        return self._source(lists, "train") if lists else self.own_train_data()

    def val_data(self) -> Any:
        """The files of `val.lists`; the scenario's own data if there are no lists at all."""
        if self.params.val.lists:
            return self._source(self.params.val.lists, "val")
        return None if self.params.train.lists else self.own_val_data()

    def lav_data(self) -> Mapping[str, Any] | None:
        """Each list of `lav.lists` for itself, by its name without the ending."""
        lists = self.params.lav.lists
        if not lists:
            return None
        names = [path.stem if len({other.stem for other in lists}) == len(lists) else str(path) for path in lists]
        return {name: self._source([path], "lav") for name, path in zip(names, lists, strict=True)}

    def predict_data(self) -> Any:
        """The files of `data.files`, without the truth; the validation data if none are given."""
        if not self.params.data.files:
            return self.val_data()
        return FileSource(matching_files(self.params.data.files, self.suffixes), self, targets=False)

    def _source(self, lists: Sequence[Path], group_name: str) -> FileSource:
        return FileSource(self.paths(lists, group_name), self, targets=True)


def matching_files(patterns: Sequence[str], suffixes: Sequence[str] = ()) -> list[Path]:
    """The files that paths, folders and patterns name, in this order; each pattern's and folder's sorted.

    Args:
        patterns: what the user gave as `--data.files`.
        suffixes: of the files that are taken from a folder, in lower case; none: all.

    Raises:
        DataError: one of them names no file.
    """
    matching: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            found = _below(path, suffixes)
        elif path.exists() or not has_magic(pattern):
            found = [path] if path.is_file() else []
        else:
            # A pattern may begin at the root, which Path.glob does not take.
            matches = sorted(glob(str(path), recursive=True))  # noqa: PTH207
            found = [Path(name) for name in matches if Path(name).is_file()]
        if not found:
            raise DataError(f"--data.files {pattern} names no file: check the path.")
        matching += found
    return matching


def _below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and (not suffixes or path.suffix.lower() in suffixes)
    ]


def _listed(path: Path, group_name: str) -> list[Path]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--{group_name}.lists {path} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--{group_name}.lists {path} is no UTF-8 text: a list holds one path a line.") from error
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        sample = path.parent / Path(line).expanduser()
        if not sample.is_file():
            raise UsageError(f"--{group_name}.lists {path}, line {number}: there is no file {sample}: mend the list.")
        found.append(sample)
    return found
