"""Numbers of any size in any file take bounded memory and time, and only regular files are opened."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c

from aipcore.cli.main import main
from aipcore.errors import AipError, ParamsError, TrainingError, UsageError
from aipcore.params import Layer
from aipcore.prediction.locate import find_model
from aipcore.training.artifacts import WEIGHTS, find_artifact
from aipcore.training.checkpoint.format import Checkpoint, find_newest, read_checkpoint, write_checkpoint
from aipcore.training.checkpoint.weights import open_variables
from aipcore.training.run_folder import exported_epoch, find_run
from aipcore.training.tensorboard.events import trim_events
from aipcore.training.warmstart.readers import read_weights


def npy(shape: tuple[int, ...], content: bytes, descr: str = "<f8") -> bytes:
    """Return an array in NumPy's format, with any content."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def archive(path: Path, members: dict[str, bytes], claimed: dict[str, int] | None = None) -> None:
    """Write a compressed archive whose directory claims other sizes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
        for member in file.infolist():
            member.file_size = (claimed or {}).get(member.filename, member.file_size)


def test_answers_that_unpack_to_much(tmp_path: Path, monkeypatch: Any, capsys: Any, bounded: Any) -> None:
    """The directory of an archive and the headers of its arrays are checked before it is unpacked."""
    path = tmp_path / "answers.npz"
    with bounded():
        archive(path, {"index.npy": npy((6 * 2**27,), b"")}, {"index.npy": 6 * 2**30})
        assert main(["evaluate", str(path)]) == 2
        error = capsys.readouterr().err
        assert "unpacks to 6.0 GiB, more than the limit of 2 GiB. If the file is correct, set AIP_READ_GIB" in error
        for shape, descr in (((2**40,), "<f8"), ((2**62, 0), "<f8"), ((1,), f"<U{2**29}"), ((2**33,), "|V1")):
            archive(path, {"index.npy": npy(shape, b"x", descr)})
            assert main(["evaluate", str(path)]) == 2
            assert "or it is damaged" in capsys.readouterr().err
        archive(path, {f"{name}.npy": npy((2**50, 0), b"") for name in ("index", "lists", "batch", "meta", "penalty")})
        assert main(["evaluate", str(path)]) == 2
        assert "or it is damaged" in capsys.readouterr().err
        archive(path, {"index.npy": npy((2**20,), bytes(2**23))})
        monkeypatch.setenv("AIP_READ_GIB", "0.001")
        assert main(["evaluate", str(path)]) == 2
        assert "unpacks to 0.0 GiB, more than the limit of 0.001 GiB" in capsys.readouterr().err
        monkeypatch.setenv("AIP_READ_GIB", "much")
        assert main(["evaluate", str(path)]) == 2
        assert "AIP_READ_GIB is 'much'. Set it to a number of GiB" in capsys.readouterr().err


def read(path: Path) -> Any:
    """Read the weights of a file."""
    return read_weights(find_artifact(path, WEIGHTS))


def test_weights_that_were_never_written(tmp_path: Path, bounded: Any, refused: Any) -> None:
    """An unwritten dataset of 2**42 numbers, which HDF5 reads as zeros, is refused by its shape."""
    path = tmp_path / "x.weights.h5"
    for options in ({}, {"chunks": (2**16,)}, {"chunks": (2**16,), "compression": "gzip"}):
        with h5py.File(path, "w") as file:
            made = file.create_dataset("layers/dense/vars/0", (2**42,), "f4", **options)
            if options:
                made[:4] = 1
        with bounded(), refused(ParamsError):
            read(path)
    keras = tmp_path / "x.keras"
    with zipfile.ZipFile(keras, "w") as file:
        file.writestr("config.json", "{}")
        file.write(path, "model.weights.h5")
    with bounded(), refused(ParamsError):
        read(keras)
    with zipfile.ZipFile(keras, "w") as file:
        file.writestr("config.json", "[" * 100_000)
        file.write(path, "model.weights.h5")
        for member, size in zip(file.infolist(), (2**40, 2**40), strict=True):
            member.file_size = size
    with bounded(), refused(ParamsError):
        read(keras)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.arange(6, dtype=np.float32)
    assert [array.tolist() for array in read(path).arrays.values()] == [[0, 1, 2, 3, 4, 5]]


def test_a_checkpoint_that_claims_much(tmp_path: Path, bounded: Any, refused: Any) -> None:
    """A manifest that agrees with the archive on a size that the file does not have is refused."""
    path = write_checkpoint(tmp_path, 1, Checkpoint(arrays={"a": np.zeros(2)}, progress={}), keep=1)
    from aipcore.training.checkpoint.format import _fingerprint, digest

    with zipfile.ZipFile(path / "variables.npz", "w") as file:
        file.writestr("000000.npy", npy((2**40,), b""))
        file.infolist()[0].file_size = file.infolist()[0].compress_size = 2**43 + 128
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["variables"]["a"]["shape"] = [2**40]
    manifest["files"]["variables.npz"] = _fingerprint(path / "variables.npz")
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest(manifest)}))
    with bounded(), refused(TrainingError):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"[" * 1_000_000, b"[]," * 20_000_000, b"\xff\xfe", b"", b"9" * 5000])
def test_records(make_run: Any, tmp_path: Path, content: bytes, bounded: Any, refused: Any) -> None:
    """A record that is deeply nested, long or not text is reported as damaged."""
    run = make_run()
    (run / "export").mkdir()
    (run / "checkpoint" / "step-0000000001").mkdir(parents=True)
    folder = find_run(run)
    for name in ("run.json", "export/aip.json", "checkpoint/step-0000000001/manifest.json"):
        (run / name).write_bytes(content)
    with bounded():
        with refused(UsageError):
            find_run(run)
        assert exported_epoch(folder) is None
        with pytest.raises(UsageError):
            find_model(run / "export")
        newest, damaged = find_newest(run / "checkpoint")
        assert newest is None
        assert len(damaged) == 1


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.yaml", BOMB),
        ("long.yaml", "a: 1\n" * 1_000_000),
        ("long.json", " " * 5_000_000),
        ("twice.json", "{" + ", ".join(f'"{n}": 1' for n in [*range(200_000), 7]) + "}"),
        ("deep.json", "[" * 1_000_000),
    ],
)
def test_parameter_files(tmp_path: Path, name: str, content: str, bounded: Any, refused: Any) -> None:
    """The size of a parameter file is limited, and so is the time to read it."""
    (tmp_path / name).write_text(content)
    with bounded(), refused(ParamsError):
        Layer.from_file(tmp_path / name)


def test_deep_yaml(tmp_path: Path, refused: Any) -> None:
    """YAML that exceeds Python's stack is refused."""
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    with refused(ParamsError):
        Layer.from_file(tmp_path / "deep.yaml")


def test_pipes(make_run: Any, tmp_path: Path, bounded: Any, capsys: Any) -> None:
    """A pipe in place of any file is refused without waiting."""
    run = make_run()
    step = run / "checkpoint" / "step-0000000001"
    step.mkdir(parents=True)
    (run / "export").mkdir()
    places = ("x.npz", "x.yaml", "x.json", "x.keras", "x.weights.h5")
    for place in (*(tmp_path / place for place in places), step / "manifest.json", run / "export" / "aip.json"):
        os.mkfifo(place)
    with bounded():
        for words in (
            ["evaluate", str(tmp_path / "x.npz")],
            ["lav", str(step)],
            ["lav", str(run / "export")],
            ["params", "tutorial", "--params", str(tmp_path / "x.yaml")],
            ["params", "tutorial", "--params", str(tmp_path / "x.json")],
        ):
            assert main(words) == 2
            error = capsys.readouterr().err
            assert any(each in error for each in ("is not a regular file", "is not a file"))
        for place in places[3:]:
            with pytest.raises(ParamsError):
                read(tmp_path / place)
        assert find_newest(run / "checkpoint")[0] is None


def test_pipes_among_variables(tmp_path: Path, bounded: Any, capsys: Any, refused: Any) -> None:
    """The folder of a model may have links, as in model caches, but no pipes, on which TensorFlow would wait."""
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    about = {"scenario": {"name": "tutorial", "kind": "plugin", "reference": "tutorial"}, "params": {}}
    (tmp_path / "aip.json").write_text(json.dumps({**about, "format": 1, "signature": {}}))
    (model / "aip.json").symlink_to(tmp_path / "aip.json")
    (model / "saved_model.pb").touch()
    os.mkfifo(model / "variables" / "variables.index")
    with bounded():
        assert main(["lav", str(model)]) == 2
        assert "variables/variables.index, which is neither a regular file" in capsys.readouterr().err
    (model / "variables" / "variables.index").unlink()
    assert find_model(model).kind == "model"
    shutil.move(model / "saved_model.pb", tmp_path / "pipe")
    os.mkfifo(tmp_path / "other")
    (model / "saved_model.pb").symlink_to(tmp_path / "other")
    with refused(AipError):
        find_model(model)


def test_variables_that_claim_much(tmp_path: Path) -> None:
    """The index of a SavedModel's variables is compared with the value files before those are read."""
    import tensorflow as tf

    (tmp_path / "variables").mkdir()
    prefix = str(tmp_path / "variables" / "variables")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.zeros(1000)])
    assert open_variables(tmp_path).get_tensor("a").shape == (1000,)
    for file in (tmp_path / "variables").glob("variables.data-*"):
        os.truncate(file, 10)
    with pytest.raises(ValueError, match="its variables need 4,000 bytes, but its files have 10"):
        open_variables(tmp_path)


def test_event_files(tmp_path: Path, bounded: Any) -> None:
    """A record that claims a petabyte, with a valid checksum, ends the file; one that is not an event is skipped."""
    from tensorflow.core.util.event_pb2 import Event

    part = tmp_path / "train"
    part.mkdir()
    with (part / "events.out.tfevents.1").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        writer.write(b"\xff" * 20)
        writer.write(Event(step=1).SerializeToString())
        length = struct.pack("<Q", 2**50)
        file.write(length + struct.pack("<I", masked_crc32c(length)))
    with bounded():
        trim_events(tmp_path, 3)
    (kept,) = part.iterdir()
    assert kept.stat().st_size < 200
