"""Fast start: `aip` does not import unused packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "numpy", "grain", "tensorboard")

CODE = f"""
import sys
from aipcore.cli.main import main
code = main(sys.argv[1:])
print("heavy:", *[name for name in {HEAVY} if name in sys.modules])
sys.exit(code)
"""


def write_record(folder):
    """Write the part of a model dir of the tutorial that is read before TensorFlow is imported."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    about = {
        "format": 1,
        "scenario": {"name": "tutorial", "kind": "plugin", "reference": "tutorial"},
        "params": {"train": {"batch_size": 7}, "model": {"graph": "CNN"}},
        "signature": {"inputs": {"image": {"shape": [8, 8], "dtype": "float32"}}, "outputs": ["digit"]},
    }
    (folder / "aip.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["trainn"], 2),
        (["plugins", "list"], 0),
        (["plugins", "list", "--json", "--timing"], 0),
        (["plugins", "show", "adabelief"], 0),
        (["plugins", "show", "tutorial"], 0),
        (["plugins", "--help"], 0),
        (["train", "--help"], 0),
        (["train", "tutorial", "--help"], 0),
        (["train", "tutorial", "--optimizer", "sgd", "--help"], 0),
        (["train", "tutorial", "--optimiser", "sgd"], 2),
        (["params", "tutorial"], 0),
        (["launch", "--workers", "2", "--print", "slurm", "train", "tutorial", "--trainer.output_dir", "run"], 0),
        (["lav", "--help"], 0),
        (["lav"], 2),
        (["lav", "nowhere"], 2),
        (["lav", "model", "--help"], 0),
        (["lav", "model", "--data.shift", "99"], 2),
        (["lav", "model", "--dump", "x.pkl"], 2),
        (["predict", "model", "--help"], 0),
        (["predict", "model", "--data.files", "nowhere.png"], 1),
        (["evaluate", "--help"], 0),
        (["evaluate", "nowhere.npz"], 2),
        (["export", "model", "--help"], 0),
        (["export", "model", "--format", "kears"], 2),
    ],
)
def test_nothing_heavy_is_imported(words, code, tmp_path):
    """Help, lists and errors import no TensorFlow, Keras, NumPy or grain."""
    write_record(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["trainn"]])
def test_help_imports_no_command(words, tmp_path):
    """The help only needs the table of commands."""
    code = CODE.replace(str(HEAVY), '("aipcore.cli.train", "aipcore.cli.plugins", "aipcore.training", "rich.console")')
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_module_is_the_command():
    """`python -m aipcore`, which debuggers start, is the same as `aip`."""
    done = subprocess.run(
        [sys.executable, "-m", "aipcore", "--version"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("aip")
