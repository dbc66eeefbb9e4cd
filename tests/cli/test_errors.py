"""Errors of one sentence, and their exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import forks
import pytest

from aipcore.cli.main import COMMANDS, global_options_first, main
from aipcore.hooks.discovery import RESERVED_COMMANDS

COMMAND = """
import click
from aipcore.errors import DataError
from aipcore.plugin import CommandRecord, hookimpl

@click.command()
@click.argument("what")
def command(what):
    "Greets."
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "wait":
        import time
        print("waiting", flush=True)
        time.sleep(60)
    if what == "fail":
        raise DataError("There is no data: give some.")
    if what == "exit":
        raise SystemExit(7)
    if what == "end":
        click.get_current_context().exit(5)
    if what == "crash":
        raise ValueError("not\\n  foreseen")
    click.echo(f"hello {what}")

@hookimpl
def aip_commands():
    return [CommandRecord(name="say-hello", summary="Greets.", build="greeting:BUILD")]
"""


@pytest.fixture
def greeting(install):
    """Install a plugin with the command `say-hello`."""
    install("greeting", COMMAND.replace("BUILD", "command"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainn"], "There is no command 'trainn'; did you mean train?"),
        (["zzz"], "There is no command 'zzz'; available: train, "),
        (["tutorial"], "There is no command 'tutorial'; did you mean aip train tutorial?"),
        (["mine.py"], "There is no command 'mine.py'; did you mean aip train mine.py?"),
        (["--debg"], "No such option '--debg'. Did you mean '--debug'?"),
        (
            ["-p", "optimizers", "plugins", "list"],
            "-p optimizers is not allowed. Write -p FILE.py to load a plugin file, or -p no:NAME to disable",
        ),
        (["-p", "no:nothing", "plugins", "list"], "-p no:nothing: no installed plugin has this name"),
        (["plugins", "lisst"], "No such command 'lisst'."),
        (["plugins", "list", "--kind", "optimiser"], "There is no plugin kind 'optimiser'; did you mean optimizer?"),
        (["plugins", "new", "optimiser", "Foo"], "There is no plugin kind 'optimiser'; did you mean optimizer?"),
        (["completion", "tcsh"], "There is no completion for 'tcsh'; choose bash, zsh or fish."),
        (["completion"], "Name a shell: aip completion bash, zsh or fish."),
        (["launch"], "Set the number of processes: aip launch --workers 2 train tutorial."),
        (["plugins", "show"], "NAME is missing: aip plugins show NAME."),
        (["plugins", "show", "adm"], "There is no plugin 'adm'; did you mean Adam"),
        (["plugins", "show", "adam", "--kind", "schedule"], "There is no schedule 'adam'; "),
    ],
)
def test_bad_words(words, message, fork_aip):
    """Invalid words cause one line on stderr, exit code 2, and no traceback."""
    done = fork_aip(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [["train", "~nobody-of-this-name/scenario.py"], ["lav", "~nobody-of-this-name/run"],
     ["predict", "~nobody-of-this-name/run"], ["evaluate", "~nobody-of-this-name/dump.npz"],
     ["export", "~nobody-of-this-name/run", "--format", "Keras"], ["params", "~nobody-of-this-name/scenario.py"],
     ["resume", "~nobody-of-this-name/run"]],
)  # fmt: skip
def test_home_of_nobody(words, capsys):
    """A path with the name of an unknown user does not exist, as in a shell."""
    assert main(words) in (1, 2)
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "~nobody-of-this-name" in errors
    assert "failed unexpectedly" not in errors


@pytest.mark.usefixtures("greeting")
class TestPluginCommand:
    """A command that a plugin registers."""

    def test_runs(self, fork_aip):
        """The command is listed and runs, in any spelling of its name."""
        assert "say-hello Greets." in " ".join(fork_aip("--help").stdout.split())
        for name in ("say-hello", "say_hello", "SayHello"):
            done = fork_aip(name, "you")
            assert (done.returncode, done.stdout) == (0, "hello you\n")

    def test_is_gone_when_disabled(self, fork_aip):
        """A switch before the command, or before `--help`, removes it."""
        assert "say-hello" not in fork_aip("-p", "no:greeting", "--help").stdout
        assert "say-hello" not in fork_aip("--help", "--no-plugins").stdout
        assert fork_aip("-p", "no:greeting", "say-hello", "you").returncode == 2

    @pytest.mark.parametrize(
        ("what", "code", "error"),
        [
            ("fail", 1, "error: There is no data: give some.\n"),
            ("interrupt", 130, "aip: interrupted\n"),
            ("exit", 7, ""),
            ("end", 5, ""),
        ],
    )
    def test_exit_codes(self, what, code, error, fork_aip):
        """Errors of the command are shown and exit like those of aip."""
        done = fork_aip("say-hello", what)
        assert (done.returncode, done.stderr) == (code, error)

    def test_unforeseen_error(self, fork_aip):
        """An exception becomes one sentence that names its authors.

        With `--debug` at any place, a traceback precedes it.
        """
        done = fork_aip("say-hello", "crash")
        assert done.returncode == 1
        assert done.stderr == (
            "error: aip say-hello failed unexpectedly (ValueError: not foreseen). Report this to the "
            "authors of greeting 1.0. --debug shows the traceback.\n"
        )
        done = fork_aip("say-hello", "crash", "--debug")
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):")
        assert done.stderr.splitlines()[-1].startswith("error: aip say-hello failed")

    def test_error_in_a_scenario(self, fork_aip, tmp_path):
        """An exception in the user's file names its line, not aip, for any callers in between."""
        (tmp_path / "broken.py").write_text(
            "from aipcore.scenario import Scenario\n\n\nclass Broken(Scenario):\n    def train_data(self):\n"
            "        return sorted([1, 2], key=self.key)\n\n    def key(self, number):\n"
            "        return {}[number]\n"
        )
        done = fork_aip("benchmark-input-pipeline", str(tmp_path / "broken.py"))
        assert (done.returncode, done.stderr) == (
            1,
            f"error: {tmp_path / 'broken.py'}, line 9, in key: KeyError: 1. --debug shows the traceback.\n",
        )

    def test_error_in_a_plugin(self, fork_aip, install):
        """An exception in an installed plugin is to be reported to its authors, not to those of aip."""
        install(
            "odd",
            "from aipcore.plugin import ScenarioRecord, hookimpl\nfrom aipcore.scenario import Scenario\n\n"
            "class Odd(Scenario):\n    def check(self):\n        return {}[1]\n\n"
            "@hookimpl\ndef aip_scenarios():\n"
            "    return [ScenarioRecord(name='odd', summary='Odd.', build='odd:Odd')]\n",
        )
        done = fork_aip("train", "odd")
        assert (done.returncode, done.stderr) == (
            1,
            "error: aip train failed unexpectedly (KeyError: 1). Report this to the authors of odd 1.0. "
            "--debug shows the traceback.\n",
        )

    def test_interrupt_from_outside(self, site):
        """Ctrl-C ends the command with exit code 130 and one line."""
        code = "import sys; from aipcore.cli.main import main; sys.exit(main(['say-hello', 'wait']))"
        running = forks.start([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"])
        assert running.stdout.readline() == "waiting\n"
        started = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
        assert (running.returncode, errors) == (130, "aip: interrupted\n")
        assert time.monotonic() - started < 10


def test_build_without_a_command(install, fork_aip):
    """A record whose build is not a click command is an error, and `--help` still works."""
    install("greeting", COMMAND.replace("BUILD", "aip_commands"))
    done = fork_aip("say-hello", "you")
    assert done.returncode == 2
    assert done.stderr == (
        "error: The command say-hello of greeting 1.0 is broken: its build names a function, not a click.Command.\n"
    )
    assert fork_aip("--help").returncode == 0


def test_strict(install, fork_aip):
    """With AIP_STRICT_PLUGINS=1, a broken plugin is an error of every command; without it, of none."""
    install("odd", "1 / 0")
    done = fork_aip("plugins", "list", AIP_STRICT_PLUGINS="1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: AIP_STRICT_PLUGINS is set, and the plugin odd of odd 1.0 cannot be imported")
    assert fork_aip("plugins", "list").returncode == 0


def test_closed_pipe():
    """A pipe that is closed early causes no error message."""
    code = "import sys; from aipcore.cli.main import main; sys.exit(main(['plugins', 'list', '--json']))"
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    errors = running.stderr.read()
    running.stderr.close()
    assert (running.wait(timeout=60), errors) == (141, "")


def test_version_and_help(fork_aip):
    """The version is one line, and `aip` without arguments shows the help."""
    import aipcore

    assert fork_aip("--version").stdout == f"aip {aipcore.__version__}\n"
    alone, asked, short = fork_aip(), fork_aip("--help"), fork_aip("-h")
    assert alone.returncode == asked.returncode == 0
    assert alone.stdout == asked.stdout == short.stdout
    assert "train Train a scenario." in " ".join(asked.stdout.split())


def test_group_alone(fork_aip):
    """A group without a command shows its help."""
    alone, asked = fork_aip("plugins"), fork_aip("plugins", "--help")
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, asked.stdout, "")
    assert "show Describe a plugin" in " ".join(alone.stdout.split())


def test_commands_are_reserved():
    """A plugin cannot register a command of aip."""
    assert set(COMMANDS) <= set(RESERVED_COMMANDS)


def test_summaries_match_the_commands():
    """The table that saves imports in `--help` has the same summaries as the commands."""
    from importlib import import_module

    for module, summary in COMMANDS.values():
        assert import_module(module).command.help.splitlines()[0] == summary


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "x", "--debug"], ["--debug", "train", "x"]),
        (["train", "x", "-p", "no:y", "--no-plugins"], ["-p", "no:y", "--no-plugins", "train", "x"]),
        (["train", "x", "-pno:y"], ["-pno:y", "train", "x"]),
        (["train", "x", "--names", "-p", "y"], ["train", "x", "--names", "-p", "y"]),
        (["train", "--", "--debug"], ["train", "--", "--debug"]),
        (["-p"], ["-p"]),
    ],
)
def test_global_options_first(words, expected):
    """The options of aip may stand anywhere before `--`; values that look like them stay in place."""
    assert global_options_first(words) == expected
