"""Checkpoints are exact, and either complete or absent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aipcore.errors import TrainingError
from aipcore.training.checkpoint import atomic
from aipcore.training.checkpoint.format import (
    Checkpoint,
    digest,
    newest_checkpoint,
    problems,
    read_checkpoint,
    write_checkpoint,
)


def example(value: float = 1.0) -> Checkpoint:
    """Return a checkpoint with every kind of array."""
    arrays = {
        "float": np.array([value, -0.0], np.float32),
        "long": np.array(2**40, np.int64),
        "short": np.array([1.5, 2.5], ml_dtypes.bfloat16),
        "flag": np.array(True),
    }
    return Checkpoint(arrays=arrays, progress={"epoch": 3})


def test_round_trip(tmp_path: Path) -> None:
    """Every bit and dtype is restored, including bfloat16."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    stored = read_checkpoint(path)
    assert stored.progress == {"epoch": 3}
    for name, array in example().arrays.items():
        assert stored.arrays[name].dtype == array.dtype
        assert stored.arrays[name].tobytes() == array.tobytes()


def test_keeps_the_newest(tmp_path: Path) -> None:
    """Only the given number of checkpoints is kept, and the folder has no incomplete ones."""
    for step in (9, 10, 11):
        write_checkpoint(tmp_path, step, example(), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000010", "step-0000000011"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest"])
def test_damage_is_found(tmp_path: Path, damage: str, refused: Any) -> None:
    """A damaged checkpoint is skipped in favour of the one before it."""
    write_checkpoint(tmp_path, 1, example(), keep=2)
    newest = write_checkpoint(tmp_path, 2, example(2.0), keep=2)
    file = newest / ("manifest.json" if damage == "manifest" else "variables.npz")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2])
    assert problems(newest)
    assert newest_checkpoint(tmp_path).name == "step-0000000001"
    with refused(TrainingError):
        read_checkpoint(newest)


def rewrite(path: Path, change: Any) -> None:
    """Change a manifest as its author could, with a matching checksum."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    change(manifest)
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest(manifest)}))


def refit(path: Path) -> None:
    """Adapt the manifest to changed files."""
    import hashlib

    def change(manifest: Any) -> None:
        for name in manifest["files"]:
            content = (path / name).read_bytes()
            manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    rewrite(path, change)


def test_newer_format_is_refused(tmp_path: Path, refused: Any) -> None:
    """A checkpoint of a newer aip is refused with one sentence, and no older one is used instead."""
    write_checkpoint(tmp_path, 1, example(), keep=2)
    path = write_checkpoint(tmp_path, 2, example(), keep=2)
    rewrite(path, lambda manifest: manifest.update(format=99))
    for read in (lambda: read_checkpoint(path), lambda: newest_checkpoint(tmp_path)):
        with refused(TrainingError):
            read()


HOSTILE = {
    "path traversal": lambda m: m["files"].update({"../../secret": {"bytes": 1, "sha256": "0"}}),
    "absolute path": lambda m: m["files"].update({"/etc/hostname": {"bytes": 1, "sha256": "0"}}),
    "no file": lambda m: m["files"].pop("variables.npz"),
    "object type": lambda m: m["variables"]["float"].update(dtype="object"),
    "unknown type": lambda m: m["variables"]["float"].update(dtype="os.system"),
    "no text": lambda m: m["variables"]["float"].update(dtype=["f4"]),
    "negative shape": lambda m: m["variables"]["float"].update(shape=[-1]),
    "huge shape": lambda m: m["variables"]["float"].update(shape=[2**60, 2**60]),
    "other shape": lambda m: m["variables"]["float"].update(shape=[1, 2]),
    "other type": lambda m: m["variables"]["float"].update(dtype="int32"),
    "one too many": lambda m: m["variables"].update(more={"dtype": "int8", "shape": []}),
    "no mapping": lambda m: m.update(variables=3),
    "size as text": lambda m: m["files"]["variables.npz"].update(bytes="1"),
    "format as text": lambda m: m.update(format="2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_manifest(tmp_path: Path, case: str, refused: Any) -> None:
    """A forged manifest with a valid checksum is refused before anything that it names is read or created."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    rewrite(path, HOSTILE[case])
    with refused(TrainingError):
        read_checkpoint(path)


@pytest.mark.parametrize("case", ["compressed", "pickle", "huge header", "deep json", "link"])
def test_hostile_files(tmp_path: Path, case: str, refused: Any) -> None:
    """Zip bombs, pickles, arrays with huge declared sizes, deep nesting and links are refused."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    names = [f"{position:06d}" for position in range(4)]
    if case == "compressed":
        zeros = np.zeros(10**6, np.float32)
        np.savez_compressed(path / "variables.npz", **{names[0]: zeros}, **dict.fromkeys(names[1:], zeros[:1]))
        rewrite(path, lambda m: [each.update(dtype="float32", shape=[10**6]) for each in m["variables"].values()])
    elif case == "pickle":
        np.savez(path / "variables.npz", **dict.fromkeys(names, np.array([print], object)), allow_pickle=True)
    elif case == "huge header":
        header = str({"descr": "<f4", "fortran_order": False, "shape": (10**12,)}).encode().ljust(117) + b"\n"
        with zipfile.ZipFile(path / "variables.npz", "w") as archive:
            for name in names:
                archive.writestr(
                    f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"12345678"
                )
    elif case == "deep json":
        (path / "progress.json").write_text("[" * 100_000)
    else:
        (path / "progress.json").rename(tmp_path / "elsewhere.json")
        (path / "progress.json").symlink_to(tmp_path / "elsewhere.json")
    refit(path)
    with refused(TrainingError):
        read_checkpoint(path)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """After any single bit flip, a checkpoint is reported as damaged or as of an unknown format."""
    path = write_checkpoint(tmp_path, 1, example(), keep=2)
    generator = np.random.default_rng(3)
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for position in generator.integers(0, len(content), 60):
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(generator.integers(8))
            file.write_bytes(flipped)
            with pytest.raises(TrainingError):
                read_checkpoint(path)
        file.write_bytes(content)
    read_checkpoint(path)


def test_damaged_ones_do_not_count_among_the_kept(tmp_path: Path) -> None:
    """Damaged newer checkpoints do not reduce the number of complete ones that are kept."""
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, step, example(), keep=9)
    for step in (2, 3):
        file = tmp_path / f"step-{step:010d}" / "variables.npz"
        file.write_bytes(file.read_bytes()[:100])
    write_checkpoint(tmp_path, 4, example(), keep=2)
    assert {"step-0000000001", "step-0000000004"} <= {path.name for path in tmp_path.iterdir()}


KILLED = """
import os, signal, sys
from pathlib import Path
from aipcore.training.checkpoint import atomic

folder, left, exchange = Path(sys.argv[1]), [int(sys.argv[2])], sys.argv[3] == "True"
if not exchange:
    atomic._renameat2 = lambda: None

def watch(event, arguments):
    if event in ("os.rename", "shutil.rmtree", "os.mkdir", "ctypes.get_errno", "os.remove"):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
with atomic.replaced_dir(folder) as fresh:
    (fresh / "new").touch()
"""


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replaced_folder_is_never_gone(tmp_path: Path, exchange: bool) -> None:
    """After a kill at any step of replacing a folder, the old or the new one exists, possibly after recovery."""
    if exchange and atomic._renameat2() is None:
        pytest.skip("this system cannot exchange folders")
    gone = []
    for count in range(20):
        folder = tmp_path / str(count) / "best"
        folder.mkdir(parents=True)
        (folder / "old").touch()
        words = [sys.executable, "-c", KILLED, str(folder), str(count), str(exchange)]
        code = subprocess.run(words, check=False, timeout=60).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        gone.append(not folder.exists())
        atomic.recover_dir(folder)
        assert [path.name for path in folder.iterdir()] in (["old"], ["new"])
        assert [path.name for path in folder.parent.iterdir()] == ["best"]
    assert len(gone) >= 3
    assert any(gone) == (not exchange)
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_full_disk_leaves_the_old_ones(tmp_path: Path, refused: Any) -> None:
    """If a file cannot grow, the error reports it and the older checkpoints are unchanged."""
    import resource

    write_checkpoint(tmp_path, 1, example(), keep=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with refused(TrainingError):
            write_checkpoint(tmp_path, 2, example(), keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000001"]
    assert newest_checkpoint(tmp_path).name == "step-0000000001"


def test_no_checkpoint(tmp_path: Path, refused: Any) -> None:
    """A missing checkpoint is reported."""
    with refused(TrainingError):
        newest_checkpoint(tmp_path)
