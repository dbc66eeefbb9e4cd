"""What is not needed is not imported: `aip` answers at once."""

from __future__ import annotations

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
    ],
)
def test_nothing_heavy_is_imported(words, code, tmp_path):
    """No TensorFlow, Keras, NumPy or grain for help, lists and errors."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["trainn"]])
def test_help_imports_no_command(words, tmp_path):
    """The table of commands suffices."""
    code = CODE.replace(str(HEAVY), '("aipcore.cli.train", "aipcore.cli.plugins", "aipcore.training", "rich.console")')
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "heavy:"
