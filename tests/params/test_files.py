"""Parameter files: YAML 1.2, JSON, and the errors of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aipcore.errors import ParamsError
from aipcore.params.files import read_mapping


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-7),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("3.", 3.0),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("012", "012"),
        ("[1, a, 2.5]", [1, "a", 2.5]),
        ("'3'", "3"),
    ],
)
def test_yaml_types(tmp_path: Path, text: str, value: Any) -> None:
    """Numbers with exponents are numbers; dates, `no` and numbers with underscores are text."""
    (tmp_path / "p.yaml").write_text(f"key: {text}\n")
    read = read_mapping(tmp_path / "p.yaml")["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "a: 1\nb: 2\na: 3\n", "not valid YAML at line 3, column 1: 'a' is given twice"),
        ("p.yml", "a: [1\nb: 2\n", "not valid YAML at line 2, column"),
        ("p.yaml", "- 1\n", "contains list instead of a mapping. Write NAME: VALUE entries"),
        ("p.yaml", "!!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("p.json", '{"a": 1, "a": 2}', "contains 'a' twice in one mapping"),
        ("p.json", '{"a": NaN}', "contains NaN, which is not a finite number"),
        ("p.json", '{"a": 1,}', "not valid JSON at line 1, column"),
        ("p.json", "3", "contains int"),
        ("p.txt", "a: 1", "must end in .json, .yaml or .yml"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The error is one sentence with the file, the position and the reason."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ParamsError) as error:
        read_mapping(tmp_path / name)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_missing_and_binary_files(tmp_path: Path, refused: Any) -> None:
    """A missing file, or one that is not text, is named."""
    with refused(ParamsError):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with refused(ParamsError):
        read_mapping(tmp_path / "b.yaml")


@pytest.mark.parametrize("name", ["p.yaml", "p.json"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    """An empty file sets nothing."""
    (tmp_path / name).write_text("")
    assert read_mapping(tmp_path / name) == {}
