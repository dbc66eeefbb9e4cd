"""Scenarios whose samples are files: lists, folders, patterns, and their errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aipcore.errors import DataError, UsageError
from aipcore.params import Layer, resolve
from aipcore.scenario import ListFileParams, ListFileScenario, Sample


class Texts(ListFileScenario):
    """A scenario in which each sample is the text of a file."""

    suffixes = (".txt",)

    def read(self, path: Path, *, targets: bool) -> Sample:
        return Sample(inputs=path.read_text(), targets=path.stem if targets else None)


class OwnTexts(Texts):
    """A scenario with built-in data."""

    def own_train_data(self) -> Any:
        return [Sample(inputs="own")]

    def own_val_data(self) -> Any:
        return [Sample(inputs="own too")]


class Words(ListFileScenario):
    """A scenario in which each word of a file is a sample."""

    def source(self, paths: Sequence[Path], *, targets: bool) -> Any:
        return [
            Sample(inputs=word, targets=path.stem if targets else None)
            for path in paths
            for word in path.read_text().split()
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create six files in two folders, and a list of three of them."""
    for name in ("a/1.txt", "a/2.txt", "a/deep/3.txt", "b/4.txt", "b/5.txt", "b/6.TXT", "b/7.png", "b/.hidden.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {path.stem}")
    (tmp_path / "three.lst").write_text("# a comment\n\na/1.txt\na/deep/3.txt\nb/4.txt\n")
    return tmp_path


def make(cls: type[ListFileScenario], *words: str) -> Any:
    """Return a scenario with command-line parameters."""
    return cls(resolve(ListFileParams, [Layer.from_arguments(words)]).value)


def names(source: Any) -> list[str]:
    """Return the targets of all samples."""
    return [source[index].targets for index in range(len(source))]


def test_lists_and_folders(folder: Path) -> None:
    """Paths in a list are relative to it, and a folder gives all files with a known extension, sorted by name."""
    scenario = make(Texts, "--train.lists", str(folder / "three.lst"), str(folder / "b"))
    scenario.check()
    assert names(scenario.train_data()) == ["1", "3", "4", "4", "5", "6"]
    assert scenario.train_data()[0].inputs == "text 1"
    assert scenario.val_data() is None


def test_lav_lists_have_names(folder: Path) -> None:
    """Each list is one dataset; two of the same name are named by their paths."""
    scenario = make(
        Texts, "--train.lists", str(folder / "a"), "--lav.lists", str(folder / "three.lst"), str(folder / "b")
    )
    found = scenario.lav_data()
    assert {name: names(source) for name, source in found.items()} == {"three": ["1", "3", "4"], "b": ["4", "5", "6"]}
    assert make(Texts, "--train.lists", str(folder / "a")).lav_data() is None
    same = make(Texts, "--train.lists", "x", "--lav.lists", str(folder / "a"), str(folder / "b" / ".." / "a"))
    assert len(same.lav_data()) == 2


def test_own_data(folder: Path) -> None:
    """Built-in data is only used without lists, so that built-in validation data never scores other training data."""
    own = make(OwnTexts)
    own.check()
    assert own.train_data()[0].inputs == "own"
    assert own.val_data()[0].inputs == "own too"
    assert make(OwnTexts, "--train.lists", str(folder / "a")).val_data() is None


def test_files_to_predict(folder: Path) -> None:
    """Paths, folders and patterns are accepted, without targets."""
    scenario = make(Texts, "--data.files", str(folder / "a" / "*.txt"), str(folder / "b"), str(folder / "a/deep/3.txt"))
    source = scenario.predict_data()
    assert [path.stem for path in source.paths] == ["1", "2", "4", "5", "6", "3"]
    assert source[0].targets is None


def test_files_of_several_samples(folder: Path) -> None:
    """`source` maps the files of all lists, and the files to predict, to samples."""
    scenario = make(
        Words, "--train.lists", str(folder / "three.lst"), "--val.lists", str(folder / "b"), "--lav.lists",
        str(folder / "three.lst"), "--data.files", str(folder / "a" / "1.txt"),
    )  # fmt: skip
    assert names(scenario.train_data()) == ["1", "1", "3", "3", "4", "4"]
    assert [sample.inputs for sample in scenario.val_data()][:2] == ["text", "4"]
    assert names(scenario.lav_data()["three"]) == names(scenario.train_data())
    assert [(sample.inputs, sample.targets) for sample in scenario.predict_data()] == [("text", None), ("1", None)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Texts has no built-in data. Pass --train.lists FILE ..."),
        (("--train.lists", "none.lst"), "--train.lists none.lst cannot be read (No such file or directory)"),
        (
            ("--train.lists", "three.lst", "--val.lists", "bad.lst"),
            "--val.lists bad.lst, line 2: the file none.txt does not exist",
        ),
        (("--train.lists", "empty.lst"), "--train.lists empty.lst names no files"),
        (("--train.lists", "empty"), "--train.lists empty contains no .txt files"),
        (("--train.lists", "b/7.png.lst"), "is not UTF-8 text"),
    ],
)
def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str) -> None:
    """Each mistake is found before anything is computed, with file and line."""
    monkeypatch.chdir(folder)
    (folder / "bad.lst").write_text("a/1.txt\nnone.txt\n")
    (folder / "empty.lst").write_text("\n# nothing\n")
    (folder / "empty").mkdir()
    (folder / "b" / "7.png.lst").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError) as caught:
        make(Texts, *words).check()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a/1.txt", "\ufeffa/1.txt\n"),
        ("a/1.txt", "a/1.txt\r\n"),
        ("a/1.txt", "  a/1.txt \t\n"),
        (" begins.txt", " begins.txt\n"),
        ("ends .txt ", "ends .txt \n"),
        ("#1.txt", "#1.txt\n"),
        ("two\u2028lines.txt", "two\u2028lines.txt\n"),
        ("form\x0cfeed\x1c\x85.txt", "form\x0cfeed\x1c\x85.txt\n"),
        ("~nobody-of-this-name.txt", "~nobody-of-this-name.txt\n"),
        ("~root", "~root\n"),
    ],
)
def test_names_in_lists(folder: Path, name: str, line: str) -> None:
    """A list can hold any file name, since only a newline ends a line."""
    (folder / name).write_text("here")
    (folder / "odd.lst").write_bytes((line + "# no file\n \n  # nor this\n").encode())
    source = make(Texts, "--train.lists", str(folder / "odd.lst")).train_data()
    assert [str(path.relative_to(folder)) for path in source.paths] == [name]


def test_home_folders(folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """`~` is the home folder in a list; with an unknown user it is part of the missing file's name."""
    monkeypatch.setenv("HOME", str(folder / "a"))
    (folder / "home.lst").write_text("~/1.txt\n")
    assert names(make(Texts, "--train.lists", str(folder / "home.lst")).train_data()) == ["1"]
    (folder / "home.lst").write_text("~nobody-of-this-name/1.txt\n")
    with refused(UsageError):
        make(Texts, "--train.lists", str(folder / "home.lst")).check()
    with refused(DataError):
        make(Texts, "--data.files", "~nobody-of-this-name/1.txt").predict_data()
    monkeypatch.chdir(folder)
    (folder / "~nobody-of-this-name.txt").write_text("")
    assert names(make(Texts, "--train.lists", "a").train_data()) == ["1", "2", "3"]
    assert len(make(Texts, "--data.files", "~nobody-of-this-name.txt").predict_data()) == 1


def test_files_that_are_no_lists(folder: Path, refused: Any) -> None:
    """Pipes are refused without waiting, endless lines are not read to the end, and long names cause no crash."""
    os.mkfifo(folder / "pipe")
    (folder / "one_line").write_bytes(b"a" * 70_000)
    (folder / "long.lst").write_text("a" * 5000)
    for entry, message in (
        ("pipe", "pipe is not a regular file"),
        ("one_line", "one_line, line 1 is too long for a path"),
        ("long.lst", "long.lst, line 1: the file "),
        ("n" * 300, "cannot be read (File name too long)"),
    ):
        with pytest.raises(UsageError) as caught:
            make(Texts, "--train.lists", str(folder / entry)).check()
        assert message in str(caught.value)
    with refused(DataError):
        make(Texts, "--data.files", "n" * 300).predict_data()


def test_missing_file_to_predict(folder: Path, refused: Any) -> None:
    """A pattern that matches nothing is an error."""
    with refused(DataError):
        make(Texts, "--data.files", str(folder / "*.nothing")).predict_data()
