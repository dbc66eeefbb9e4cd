"""`aip doctor`: facts for bug reports, and known problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def test_facts(fork_aip: Callable[..., Any]) -> None:
    """Versions, devices and plugins are listed; without a problem, the exit code is 0."""
    done = fork_aip("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert lines["tensorflow"].strip().startswith("2.21")
    assert "CPU:0" in lines["devices"]
    assert "built-in, 0 third-party" in lines["plugins"]
    assert "No problems found." in done.stdout


def test_problems(run_aip: Callable[..., Any], install: Callable[..., Any]) -> None:
    """A broken plugin and two wrong variables are named with advice, and the exit code is 1."""
    install("aip-plugin-broken", "1 / 0")
    done = run_aip("doctor", "--json", KERAS_BACKEND="jax", AIP_LOG_LEVEL="loud")
    assert done.returncode == 1
    found = "\n".join(json.loads(done.stdout)["problems"])
    assert "KERAS_BACKEND is 'jax'" in found
    assert "AIP_LOG_LEVEL is 'loud'" in found
    assert "The plugin aip-plugin-broken of aip-plugin-broken 1.0 cannot be imported: " in found
