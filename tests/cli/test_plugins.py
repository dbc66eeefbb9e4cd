"""`aip plugins list` and `aip plugins show`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

STRANGER = '''
"""Registers one optimizer."""

from aipcore.plugin import OptimizerParams, OptimizerRecord, at_least, field, hookimpl, params

@params
class StrangeParams(OptimizerParams):
    """Options of Strange."""

    twist: int = field(3, help="How often to turn.", check=at_least(1))

class Strange:
    """Turns and turns.

    Reference: nobody, "Nothing", 2020.
    """

def build(params, learning_rate):
    """Makes it."""

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="Strange", summary="Turns.", params="aip_plugin_strange:StrangeParams",
                            build="aip_plugin_strange:build", docs="the README")]
'''


@pytest.fixture
def strangers(install):
    """Install a working plugin, a broken one, two with the same name, and one to be disabled."""
    install("aip-plugin-strange", STRANGER, version="1.2", entry_points={"strange": "aip_plugin_strange"})
    install("aip-plugin-broken", "import nothing_of_this_name")
    for name in ("one", "two"):
        install(name, STRANGER.replace('"Strange"', '"Twin"').replace("aip_plugin_strange", name))
    install("off", STRANGER.replace('"Strange"', '"Off"'))


@pytest.mark.usefixtures("strangers")
class TestList:
    """`aip plugins list` with plugins in every state."""

    def test_json(self, fork_aip):
        """The JSON has each plugin and each entry point that is not loaded, with all details."""
        done = fork_aip("-p", "no:off", "plugins", "list", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        rows = {row["name"]: row for row in json.loads(done.stdout)}
        assert {"Adam", "CosineDecay", "tutorial", "CSVLog", "SavedModel"} <= set(rows)
        strange = rows["Strange"]
        assert strange.pop("seconds") > 0
        assert strange == {
            "kind": "optimizer", "name": "Strange", "summary": "Turns.", "distribution": "aip-plugin-strange",
            "version": "1.2", "status": "ok", "reason": "", "entry_point": "strange",
        }  # fmt: skip
        broken = rows["aip-plugin-broken"]
        assert (broken["kind"], broken["status"]) == (None, "broken")
        assert broken["reason"] == ("cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'")
        assert rows["Twin"]["status"] == "broken"
        assert rows["Twin"]["reason"].startswith("one 1.0 and two 1.0 both register the optimizer Twin")
        assert (rows["off"]["status"], rows["off"]["reason"]) == ("disabled", "disabled by -p no:off")

    def test_lines(self, fork_aip):
        """In a pipe, each plugin is one line, in the order of kinds, with the reason if it is not ok."""
        done = fork_aip("-p", "no:off", "plugins", "list")
        lines = [line.split(maxsplit=5) for line in done.stdout.splitlines()]
        assert ["optimizer", "Strange", "ok", "aip-plugin-strange", "1.2", "Turns."] in lines
        assert sum(line[1] == "Twin" for line in lines) == 2
        (broken,) = [line for line in done.stdout.splitlines() if "aip-plugin-broken" in line]
        assert broken.startswith("not loaded")
        assert "cannot be imported: ModuleNotFoundError" in broken
        kinds = [line[0] for line in lines[1:]]
        assert list(dict.fromkeys(kinds)) == [
            "optimizer", "schedule", "scenario", "callback", "exporter", "writer", "command", "not",
        ]  # fmt: skip

    def test_kind(self, fork_aip):
        """One kind is listed, together with unloaded entry points, which may be of that kind."""
        done = fork_aip("-p", "no:off", "plugins", "list", "--kind", "Schedule", "--json")
        assert {row["kind"] for row in json.loads(done.stdout)} == {"schedule", None}

    def test_timing(self, fork_aip):
        """Each loaded entry point is a line, the slowest first, followed by the sum."""
        lines = fork_aip("-p", "no:off", "plugins", "list", "--timing").stdout.splitlines()
        table = [line.split() for line in lines[lines.index("") + 2 :]]
        *each, total = [float(line[0]) for line in table]
        assert each == sorted(each, reverse=True)
        assert total == pytest.approx(sum(each), abs=0.01 * len(each))
        assert {line[1] for line in table} >= {"optimizers", "strange", "aip-plugin-broken", "all"}
        assert "off" not in {line[1] for line in table}

    def test_terminal(self, site):
        """On a terminal of 80 columns no line is longer, and no name is cut."""
        text = on_terminal(["plugins", "list"], site)
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        for name in ("WarmupConstantCosineDecay", "ReduceOnPlateau", "Strange", "aip-plugin-broken"):
            assert any(line.startswith(f"  {name} ") for line in lines)
        assert "optimizer" in lines

    def test_show(self, fork_aip):
        """The page has parameters with defaults, limits and help, the origin, and the docstring without an import."""
        text = " ".join(fork_aip("plugins", "show", "strange", COLUMNS="300").stdout.split())
        for part in (
            "optimizer Strange Turns.",
            "distribution aip-plugin-strange 1.2",
            "entry point strange = aip_plugin_strange",
            "status ok",
            "built by aip_plugin_strange:build",
            "aip_plugin_strange.py:12",
            "documentation the README",
            "use aip train SCENARIO --optimizer Strange",
            'Turns and turns. Reference: nobody, "Nothing", 2020.',
            "Options of Strange.",
            "--optimizer.clip_value FLOAT",
            "--optimizer.twist INT How often to turn. Must be at least 1. [3]",
        ):
            assert part in text

    def test_show_conflict(self, fork_aip):
        """Both owners of a name are shown, with advice."""
        text = " ".join(fork_aip("plugins", "show", "twin").stdout.split())
        assert text.count("status broken: one 1.0 and two 1.0 both register the optimizer Twin: disable one with") == 2

    def test_show_broken(self, fork_aip):
        """A broken entry point is shown with its reason, and with `--debug` also with its traceback."""
        text = fork_aip("plugins", "show", "aip_plugin_broken").stdout
        assert "broken: cannot be imported: ModuleNotFoundError" in text
        assert "--debug shows the traceback." in text
        assert (
            "Traceback (most recent call last):" in fork_aip("plugins", "show", "aip_plugin_broken", "--debug").stdout
        )

    def test_show_disabled(self, fork_aip):
        """A disabled entry point is shown as such."""
        assert "disabled by -p no:off" in fork_aip("-p", "no:off", "plugins", "show", "off").stdout


def test_show_wrong_params(install, fork_aip):
    """Invalid parameters are an error after all other details are shown."""
    install("aip-plugin-strange", STRANGER.replace("@params\n", ""), entry_points={"strange": "aip_plugin_strange"})
    done = fork_aip("plugins", "show", "strange")
    assert done.returncode == 2
    assert "built by" in done.stdout
    assert done.stderr == (
        "error: The optimizer Strange of aip-plugin-strange 1.0 is broken: its parameters must be a @params class that "
        "extends OptimizerParams.\n"
    )


def test_show_several_kinds(install, fork_aip):
    """A name in several kinds shows all of them, or the one of `--kind`."""
    source = STRANGER.replace("Optimizer", "Callback").replace("aip_optimizers", "aip_callbacks")
    install("aip-plugin-strange", source.replace('"Strange"', '"Adam"'))
    both = fork_aip("plugins", "show", "adam").stdout
    assert "optimizer Adam\n" in both
    assert "callback Adam\n" in both
    assert "--callbacks.Adam.twist" in both
    one = fork_aip("plugins", "show", "adam", "--kind", "callback").stdout
    assert "optimizer Adam\n" not in one


@pytest.mark.parametrize("name", ["tutorial", "adabelief", "cosinedecay", "csvlog", "savedmodel", "optimizers"])
def test_show_built_in(name, fork_aip):
    """Built-in plugins of each kind and a built-in entry point can be shown."""
    done = fork_aip("plugins", "show", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "aipcore" in done.stdout


def test_many_plugins(install, fork_aip):
    """All plugins among 500 distributions are found, and a broken one is reported without affecting others."""
    for number in range(500):
        broken = number == 250
        source = STRANGER.replace('"Strange"', f'"Made{number}"').replace("aip_plugin_strange", f"made{number}")
        install(f"made{number}", "1 / 0" if broken else source)
    rows = {row["name"]: row for row in json.loads(fork_aip("plugins", "list", "--json").stdout)}
    assert sum(name.startswith("Made") and row["status"] == "ok" for name, row in rows.items()) == 499
    assert rows["made250"]["reason"] == "cannot be imported: ZeroDivisionError: division by zero"
    assert rows["Adam"]["status"] == "ok"


def on_terminal(words: list[str], site) -> str:
    """Return the output of `aip` on a terminal of 80 columns, without colours."""
    code = f"import sys; from aipcore.cli.main import main; sys.exit(main({words!r}))"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIP_")}
    environment = {**kept, "PYTHONPATH": str(site), "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    shown = bytearray()
    # pty.fork() is not safe in this process if a library of other tests has started threads.
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal's output as an error
            break
        if not part:
            break
        shown.extend(part)
    os.close(ours)
    assert child.wait(timeout=60) == 0
    return shown.decode().replace("\r\n", "\n")


def test_layout(fork_aip):
    """At 80 columns, no option name is broken; notes precede the options; no line has backticks or trailing blanks."""
    text = fork_aip("plugins", "show", "Adam", "--kind", "optimizer", COLUMNS="80").stdout
    lines = text.splitlines()
    assert "  --optimizer.exclude_from_weight_decay TEXT ..." in lines
    assert max(map(len, lines)) <= 80
    assert lines == [line.rstrip() for line in lines]
    assert "`" not in text
    heading = lines.index("  Parameters and their defaults")
    assert lines.index("  Suggested for the tutorial: --learning_rate.lr 0.001.") < heading
    assert lines[heading + 2].startswith("  --optimizer.clip_value FLOAT ")
