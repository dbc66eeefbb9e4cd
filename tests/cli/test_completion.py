"""Shell completion: knows scenarios, options of the selection and names of components, without TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import atexit, os, sys
atexit.register(lambda: print("IMPORTED", *sorted({"tensorflow", "keras", "numpy", "grain"} & set(sys.modules))))
from aipcore.cli.main import main
sys.exit(main())
"""


def complete(folder: Path, line: str) -> list[str]:
    """The answers for a line, whose last word is the one being typed."""
    environment = {
        **os.environ,
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "_AIP_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    output, _, imported = done.stdout.rpartition("IMPORTED")
    assert not imported.split()
    assert done.stderr == ""
    return output.split()


CASES = {
    "aip tr": {"plain,train"},
    "aip train tuto": {"plain,tutorial", "file,"},
    "aip train tutorial --optimizer ada": {"plain,Adam", "plain,AdamW", "plain,Adamax", "plain,AdaBelief"},
    "aip train tutorial --optimizer sgd --optimizer.m": {"plain,--optimizer.momentum"},
    "aip train tutorial --optimizer.m": set(),
    "aip train tutorial --model.graph c": {"plain,CNN"},
    "aip train tutorial --trainer.jit_compile o": {"plain,on", "plain,off"},
    "aip train tutorial --train.shuffle ": {"plain,True", "plain,False"},
    "aip train tutorial --trainer.output_dir ": {"file,"},
    "aip train tutorial --params ": {"file,"},
    "aip train tutorial --js": {"plain,--json-log"},
    "aip train tutorial --trainer.epochs x --optimizer.amsg": {"plain,--optimizer.amsgrad"},
    "aip train nonsense --opt": set(),
}


@pytest.mark.parametrize("line", CASES)
def test_completions(tmp_path: Path, line: str) -> None:
    """What is wrong or half typed before does not keep the rest from being completed."""
    assert set(complete(tmp_path, line)) == CASES[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    """Each script asks `aip`, and its own shell can read it where there is one."""
    command = [
        sys.executable,
        "-c",
        "import sys; from aipcore.cli.main import main; sys.exit(main())",
        "completion",
        shell,
    ]
    script = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"_AIP_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        option = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}[shell]
        assert subprocess.run([shell, option], input=script, text=True, check=False).returncode == 0
