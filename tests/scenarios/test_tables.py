"""`read_columns`: CSV files with named columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.errors import DataError
from aipcore.scenario import read_columns


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_columns_by_name(tmp_path: Path) -> None:
    """Columns have their dtypes in the requested order; files are joined, whatever the order of their columns."""
    one = written(tmp_path, '\ufeffcity,size,rooms\r\n"Ulm, ""old""",1.5,2\r\nBonn,nan,-3\r\n')
    two = written(tmp_path, "rooms, size,unused,city\n4,1e3,x,Zürich\n\n", "other.csv")
    found = read_columns([one, two], {"size": "float32", "rooms": np.int16, "city": str})
    assert list(found) == ["size", "rooms", "city"]
    np.testing.assert_array_equal(found["size"], np.array([1.5, np.nan, 1000], np.float32))
    np.testing.assert_array_equal(found["rooms"], np.array([2, -3, 4], np.int16))
    assert found["city"].tolist() == ['Ulm, "old"', "Bonn", "Zürich"]
    assert (found["size"].dtype, found["rooms"].dtype, found["city"].dtype.kind) == (np.float32, np.int16, "U")
    assert read_columns(written(tmp_path, "a;b\n1;2\n"), {"b": "uint8"}, separator=";")["b"].tolist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Rooms\n1\n", "does not have the column 'rooms'; did you mean Rooms"),
        ("1\n2\n", r"does not have the column 'rooms'; its columns: 1\. The first line must name the columns\."),
        ("", "its columns: none"),
        ("rooms,rooms\n1,2\n", "has 2 columns with the name rooms"),
        ("rooms\n1\n\n1.5\n", r"line 4: rooms is '1\.5', which is not a number of the type int8"),
        ('rooms\n""\n', "line 2: rooms is '', which is not a number"),
        ("rooms\n1_0\n", "line 2: rooms is '1_0', which is not a number"),
        ("rooms\n" + "1" * 400, "which is outside the range of int8"),
        ("rooms\n128\n", "line 2: rooms is 128, which is outside the range of int8"),
        ("rooms,b\n1,2\n1\n", r"line 3 has 1 columns instead of 2\. Correct the line\."),
        ("rooms;b\n1,5;2,5\n", r"does not have the column 'rooms'"),
        ("rooms\n1,5;2,5\n", r"line 2 has 3 columns instead of 1\. Is ',' the separator\?"),
        (b"rooms\n\xff\n", r"is not a CSV file in UTF-8"),
        ('rooms\n"1', r"is not a CSV file in UTF-8"),
        ("rooms\n" + "1" * 200_000, r"is not a CSV file in UTF-8"),
    ],
)
def test_bad_files(tmp_path: Path, content: Any, message: str) -> None:
    """The error names the file, the line and the column."""
    with pytest.raises(DataError, match=message) as error:
        read_columns(written(tmp_path, content), {"rooms": "int8"})
    assert "table.csv" in str(error.value)


def test_files_that_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, one above the limit of memory and a dtype that no cell has are refused."""
    with pytest.raises(DataError, match="cannot be read"):
        read_columns(tmp_path / "none.csv", {"a": "int8"})
    with pytest.raises(DataError, match="cannot be read"):
        read_columns(tmp_path, {"a": "int8"})
    with pytest.raises(DataError, match="The column a has the dtype complex64"):
        read_columns([], {"a": "complex64"})
    monkeypatch.setenv("AIP_READ_GIB", "0.000001")
    with pytest.raises(DataError, match="more than the limit"):
        read_columns(written(tmp_path, "a\n" + "1\n" * 2000), {"a": "int8"})


def test_floats_out_of_range(tmp_path: Path) -> None:
    """A number that its dtype cannot express is refused. NaN and infinity are values."""
    with pytest.raises(DataError, match=r"line 2: size is 1e\+40, which is outside the range of float32"):
        read_columns(written(tmp_path, "size\n1e40\n"), {"size": "float32"})
    found = read_columns(written(tmp_path, "size\ninf\nnan\n"), {"size": "float32"})["size"]
    np.testing.assert_array_equal(found, np.float32([np.inf, np.nan]))
