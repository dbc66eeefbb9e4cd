"""Plugin files on the command line: `-p FILE.py`, the project's pyproject.toml, lists, help, completion, trust."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aipcore.cli.main import global_options_first

OWN = """
from aipcore.plugin import CommandRecord, OptimizerParams, OptimizerRecord, WriterRecord, field, hookimpl, params
import click

@params
class Params(OptimizerParams):
    '''Options of a made-up optimizer.'''
    twist: float = field(0.5, help="How much.")

@click.command("greet")
def greet():
    '''Greets.'''
    click.echo("hello")

def build(params, learning_rate):
    '''Builds nothing.'''

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="Mine", summary="Made up.", params=Params, build=build)]

@hookimpl
def aip_commands():
    return [CommandRecord(name="greet", summary="Greets.", build=greet)]
"""

PROBE = """
import sys
from aipcore.cli.main import main
code = main(sys.argv[1:]) if len(sys.argv) > 1 else main()
print("heavy:", *[name for name in ("tensorflow", "keras", "numpy") if name in sys.modules])
sys.exit(code)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Write a plugin file into the working folder."""
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def project(tmp_path: Path, own: Path) -> Path:
    """Write a project that names the plugin file."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.aip]\nplugins = ['own.py']\n")
    return path


def probe(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `aip` in a process that reports heavy imports."""
    return subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False, cwd=folder, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_list_show_and_commands(fork_aip: Any, own: Path) -> None:
    """The file's components are listed with its path, described with the option, and its commands run."""
    rows = json.loads(fork_aip("plugins", "list", "--json", "-p", "own.py").stdout)
    (mine,) = [row for row in rows if row["name"] == "Mine"]
    assert (mine["file"], mine["distribution"], mine["status"]) == (str(own), None, "ok")
    lines = fork_aip("-p", "own.py", "plugins", "list").stdout.splitlines()
    assert any(line.split()[:4] == ["optimizer", "Mine", "ok", "own.py"] for line in lines)
    shown = fork_aip("plugins", "show", "mine", "-p", "own.py").stdout
    assert "--optimizer Mine -p own.py" in shown
    assert f"{own}:" in shown
    assert fork_aip("greet", "-p", "own.py").stdout == "hello\n"
    assert "greet" in fork_aip("--help", "-p", "own.py").stdout


def test_options_of_a_file(fork_aip: Any, own: Path) -> None:
    """Options of its components are those of the command, without TensorFlow, and only with the file."""
    words = ["params", "tutorial", "--optimizer", "mine", "--optimizer.twist", "0.25"]
    assert "twist: 0.25" in fork_aip(*words, "-p", "own.py").stdout
    done = fork_aip(*words)
    assert (done.returncode, "There is no optimizer 'mine'" in done.stderr) == (2, True)
    assert probe(own.parent, *words, "-p", "own.py").stdout.splitlines()[-1] == "heavy:"


def test_a_scenario_file_knows_its_components(fork_aip: Any, tmp_path: Path) -> None:
    """Help, parameters and completion of a scenario file include its own components."""
    scenario = "\nfrom aipcore.scenario import Scenario\n\nclass Own(Scenario):\n    '''One.'''\n"
    (tmp_path / "one.py").write_text(OWN + scenario)
    assert "--optimizer.twist" in fork_aip("train", "one.py", "--optimizer", "mine", "--help", "optimizer").stdout
    done = fork_aip("params", "one.py", "--optimizer", "min")
    assert "did you mean Mine" in done.stderr
    environment = {"COMP_WORDS": "aip train one.py --optimizer mi", "COMP_CWORD": "4", "_AIP_COMPLETE": "bash_complete"}
    assert "plain,Mine" in probe(tmp_path, **environment).stdout


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("aip train tutorial -p own.py --optimizer mi", "plain,Mine"),
        ("aip train tutorial -p own.py --optimizer mine --optimizer.tw", "plain,--optimizer.twist"),
        ("aip train tutorial -p ", "file,"),
        ("aip -p own.py gr", "plain,greet"),
        ("aip train tutorial -p none.py --opt", ""),
    ],
)
def test_completion(own: Path, line: str, found: str) -> None:
    """Completion knows the components of the files before the word."""
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_AIP_COMPLETE": "bash_complete"}
    done = probe(own.parent, **environment)
    assert done.stderr == ""
    assert done.stdout.splitlines()[:-1] == ([found] if found else [])
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_wrong_files(fork_aip: Any, own: Path) -> None:
    """A missing or broken file ends the command in one sentence with exit code 2, in every command."""
    own.write_text("from aipcore.plugin import hookimpl\nnonsense\n")
    for name, text in (("none.py", "There is no plugin file none.py"), ("own.py", "NameError")):
        done = fork_aip("params", "tutorial", "-p", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert text in done.stderr
    assert "line 2" in done.stderr


def test_a_project(fork_aip: Any, project: Path) -> None:
    """The files of a project are loaded in its folder and below; switches disable them."""
    inner = project.parent / "inner"
    inner.mkdir()
    assert "Mine" in probe(inner, "plugins", "list").stdout
    assert "twist" in fork_aip("params", "tutorial", "--optimizer", "mine").stdout
    assert "disabled by --no-plugins" in fork_aip("--no-plugins", "plugins", "list").stdout
    assert "disabled by -p no:own" in fork_aip("plugins", "list", "-p", "no:own").stdout
    assert "not named in AIP_LOAD_PLUGINS" in fork_aip("plugins", "list", AIP_LOAD_PLUGINS="").stdout
    project.write_text("[tool.aip]\nplugin = []\n")
    done = fork_aip("params", "tutorial")
    assert (done.returncode, "unknown key 'plugin'" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["resume", "lav", "predict", "export", "evaluate"])
def test_a_folder_of_data_runs_no_code(fork_aip: Any, project: Path, command: str) -> None:
    """A command that reads a folder loads the project above it with --trust only; -p is the user's own."""
    (project.parent / "own.py").write_text("open('marked', 'w').close()\n" + OWN)
    (project.parent / "run").mkdir()
    marked = project.parent / "marked"
    fork_aip(command, "run", "--help")
    fork_aip(command, "run")
    assert not marked.exists()
    environment = {"COMP_WORDS": f"aip {command} run --opt", "COMP_CWORD": "3", "_AIP_COMPLETE": "bash_complete"}
    if command == "lav":
        probe(project.parent, **environment)
        assert not marked.exists()
        # An unknown command is looked up among those of plugins.
        fork_aip("greet", "run")
        assert marked.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "x", "-p", "a.py", "--y"], ["-p", "a.py", "train", "x", "--y"]),
        (["train", "x", "-pa.py"], ["-pa.py", "train", "x"]),
        (["train", "x", "--y", "-p", "3"], ["train", "x", "--y", "-p", "3"]),
    ],
)
def test_the_option_may_stand_anywhere(words: list[str], expected: list[str]) -> None:
    """`-p FILE.py` is moved to the front; other words that begin with -p are values."""
    assert global_options_first(words) == expected


def test_launch_passes_the_options_of_aip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of `aip launch` gets the plugin files and switches."""
    import aipcore.cli.launch
    from aipcore.cli.main import main
    from aipcore.distributed.launcher import End

    given: list[str] = []

    class Started:
        def __init__(self, *_: Any) -> None:
            pass

        def run(self, words: list[str]) -> End:
            given.extend(words)
            return End(0, lost=None, explained=False)

    monkeypatch.setattr(aipcore.cli.launch, "Launch", Started)
    monkeypatch.setattr(aipcore.cli.launch, "make_output_optional", lambda: None)
    with pytest.raises(SystemExit):
        main(["launch", "--workers", "2", "train", "tutorial", "-p", "no:callbacks", "--debug", "--no-plugins"])
    assert given[:6] == ["-p", "no:callbacks", "--no-plugins", "--debug", "train", "tutorial"]


def test_several_parameter_files(fork_aip: Any, tmp_path: Path) -> None:
    """Files are merged in their order, each may hold a part, and the origin of each value is its file."""
    (tmp_path / "a.yaml").write_text("trainer: {epochs: 5, random_seed: 1}\noptimizer: {name: SGD, momentum: 0.5}\n")
    (tmp_path / "b.json").write_text('{"trainer.epochs": 7, "optimizer": {"momentum": 0.75}}')
    (tmp_path / "c.yaml").write_text("optimizer: Lion\n")
    words = ["params", "--params", "a.yaml", "b.json", "tutorial", "--train.batch_size", "4"]
    text = fork_aip(*words).stdout
    for line in ("epochs: 7 # b.json", "random_seed: 1 # a.yaml", "name: SGD # a.yaml", "momentum: 0.75 # b.json"):
        assert line in " ".join(text.split())
    plain = json.loads(fork_aip(*words, "--params", "c.yaml", "--format", "json").stdout)
    assert (plain["trainer"]["optimizer"]["name"], plain["trainer"]["epochs"]) == ("Lion", 7)
    assert "momentum" not in plain["trainer"]["optimizer"]
    done = fork_aip("params", "tutorial", "--params", "a.yaml", "--params=a.yaml")
    assert (done.returncode, "--params a.yaml is given twice" in done.stderr) == (2, True)
