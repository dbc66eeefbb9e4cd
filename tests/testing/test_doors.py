"""The command and the pytest interface of the conformance kit, and its documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMAND = """
import click
from aipcore.plugin import CommandRecord, hookimpl

@hookimpl
def aip_commands():
    summary = "Says hello."
    return [
        CommandRecord(name=name, summary=summary, build=f"aip_plugin_two:{name}") for name in ("hello", "lenient")
    ]

@click.command()
def hello():
    "Says hello."

@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lenient(words):
    "Takes anything."
"""


@pytest.fixture
def two(install):
    """Install two commands, of which one fails a check."""
    install("aip-plugin-two", COMMAND)


@pytest.mark.usefixtures("two")
class TestCommandLine:
    def test_a_line_for_each_check(self, fork_aip):
        """In a pipe, each check is a line of status, plugin, check and seconds, followed by a summary."""
        done = fork_aip("plugins", "check", "hello")
        assert (done.returncode, done.stderr) == (0, "")
        *lines, summary = done.stdout.splitlines()
        assert len(lines) == 5
        assert all(re.fullmatch(r"passed  command hello  \w+  \d+\.\d\d s", line) for line in lines)
        assert re.fullmatch(r"5 checks of 1 plugin in \d+\.\d s: 5 passed", summary)

    def test_failure(self, fork_aip):
        """An entry point stands for all its plugins; one failure gives exit code 1."""
        done = fork_aip("plugins", "check", "aip_plugin_two")
        assert (done.returncode, done.stderr) == (1, "")
        assert "failed  command lenient  refuses_unknown_options" in done.stdout
        assert "it accepts --no-such-option-exists" in done.stdout
        assert done.stdout.splitlines()[-1].endswith("9 passed, 1 failed")

    def test_json(self, fork_aip):
        """The output is one JSON object with every result."""
        done = fork_aip("plugins", "check", "lenient", "--json")
        assert done.returncode == 1
        content = json.loads(done.stdout)
        assert content["counts"] == {"passed": 4, "failed": 1, "skipped": 0, "expected failure": 0}
        [failed] = [result for result in content["results"] if result["status"] == "failed"]
        assert failed["check"] == "refuses_unknown_options"
        assert failed["kind"] == "command"

    def test_all_of_a_kind(self, install, fork_aip):
        """`--all` checks all installed plugins, and counts those that cannot be loaded as failures."""
        install("aip-plugin-bad", "1 / 0")
        done = fork_aip("plugins", "check", "--all", "--kind", "command")
        assert done.returncode == 1
        assert "failed: the plugin aip-plugin-bad of aip-plugin-bad 1.0 cannot be imported" in done.stdout
        assert done.stdout.splitlines()[-1].endswith("1 not loaded")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "Name the plugins to check, or use --all"),
            (["hello", "--all"], "Name the plugins to check, or use --all"),
            (["helo"], "There is no plugin 'helo'; did you mean hello?"),
            (["hello", "--kind", "optimizer"], "There is no optimizer 'hello'"),
        ],
    )
    def test_bad_input(self, words, message, fork_aip):
        """A missing or unknown argument is refused in one sentence."""
        done = fork_aip("plugins", "check", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {message}")

    def test_works_without_pytest(self, site, run_aip):
        """The command works if pytest cannot be imported."""
        (site / "pytest.py").write_text("raise ImportError('not here')")
        assert run_aip("plugins", "check", "hello").returncode == 0


@pytest.mark.usefixtures("two")
def test_five_lines_in_another_suite(site, tmp_path):
    """Every check is a test; an expected failure is an xfail with its reason, any other one gives the fault."""
    (tmp_path / "test_conformance.py").write_text(
        "from aipcore.testing import parametrize_checks\n\n"
        '@parametrize_checks("hello")\n'
        "def test_hello(check):\n"
        "    check()\n\n"
        '@parametrize_checks("lenient", expected_failures={"refuses_unknown_options": "on purpose"})\n'
        "def test_expected(check):\n"
        "    check()\n\n"
        '@parametrize_checks("lenient")\n'
        "def test_lenient(check):\n"
        "    check()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rfx", "-W", "error", "-p", "no:cacheprovider", tmp_path],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert "1 failed, 13 passed, 1 xfailed" in done.stdout, done.stdout
    assert "lenient-refuses_unknown_options] - on purpose" in done.stdout
    assert "command lenient, refuses_unknown_options: it accepts --no-such-option-exists" in done.stdout


def test_listing_checks_imports_nothing_heavy():
    """The registry can be read, and tests collected, without TensorFlow."""
    code = "import sys; from aipcore.testing import all_checks; all_checks(); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_check_is_documented():
    """docs/testing-plugins.md equals the output of `make docs`, and describes every field of a declaration."""
    import attrs

    from aipcore.testing import Declaration

    done = subprocess.run([sys.executable, ROOT / "docs" / "make_checks.py", "--check"], check=False)
    assert done.returncode == 0, "docs/testing-plugins.md is not up to date: run `make docs`"
    text = (ROOT / "docs" / "testing-plugins.md").read_text(encoding="utf-8")
    for attribute in attrs.fields(Declaration):
        assert f"`{attribute.name}`" in text


@pytest.mark.slow
def test_all_built_in_plugins_pass(fork_aip):
    """All built-in plugins pass every check."""
    done = fork_aip("--no-plugins", "plugins", "check", "--all", "--json", timeout=600)
    content = json.loads(done.stdout)
    failed = [result for result in content["results"] if result["status"] == "failed"]
    assert failed == []
    assert done.returncode == 0
    assert content["counts"]["passed"] > 300
