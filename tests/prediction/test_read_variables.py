"""The public reader of the variables of a model on disk."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from aipcore.errors import UsageError
from aipcore.prediction import read_variables


def test_variables_by_name(tmp_path: Path) -> None:
    """The arrays of an `.h5` file of Keras 2 have the names of the program."""
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = ["head"]
        file.create_group("head").attrs["weight_names"] = ["head/kernel:0"]
        file["head/head/kernel:0"] = kernel
    found = read_variables(tmp_path / "old.h5")
    assert list(found) == ["head/kernel"]
    np.testing.assert_array_equal(found["head/kernel"], kernel)


def test_errors_name_no_option(tmp_path: Path) -> None:
    """A missing and a damaged file are named without an option of the command line."""
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for name, sentence in (("none.h5", "does not exist."), ("old.h5", "cannot be read as a weights file")):
        with pytest.raises(UsageError) as caught:
            read_variables(str(tmp_path / name))
        assert str(caught.value).startswith(f"{tmp_path / name} {sentence}")
