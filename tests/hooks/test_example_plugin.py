"""A third-party plugin from installation to removal, and its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import forks
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(request):
    """Return the folder of the plugin, by default Lookahead."""
    return EXAMPLES / getattr(request, "param", "aip-plugin-lookahead")


@pytest.fixture
def installed_example(example, site, tmp_path):
    """Install the plugin by pip into `site` without a network."""
    # A build creates folders beside the sources.
    copy = shutil.copytree(example, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
            "--no-build-isolation", "--target", site, copy,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


@pytest.mark.usefixtures("installed_example")
def test_install_and_remove(fork_aip, site):
    """An installed plugin is listed and shown; a removed one is not, and its name is an error."""
    listed = fork_aip("plugins", "list", "--kind", "optimizer").stdout
    assert "Lookahead  ok" in listed
    assert "aip-plugin-lookahead 1.0.0" in listed
    shown = fork_aip("plugins", "show", "lookahead").stdout
    assert "--optimizer.k INT" in shown
    assert "k steps forward" in shown
    assert fork_aip("params", "tutorial", "--optimizer", "lookahead", "--optimizer.k", "5").returncode == 0
    for part in site.iterdir():
        shutil.rmtree(part)
    assert "Lookahead" not in fork_aip("plugins", "list").stdout
    done = fork_aip("params", "tutorial", "--optimizer", "lookahead")
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no optimizer 'lookahead'; available: Adam, AdamW")


@pytest.mark.usefixtures("installed_example")
@pytest.mark.parametrize(
    ("example", "tests"),
    [
        pytest.param("aip-plugin-lookahead", "tests/test_lookahead.py", id="lookahead", marks=pytest.mark.slow),
        pytest.param(
            "aip-plugin-lookahead", "tests/test_conformance.py", id="lookahead-conformance", marks=pytest.mark.slow
        ),
        pytest.param("aip-plugin-textmodel", "tests/test_textmodel.py", id="textmodel", marks=pytest.mark.slow),
        pytest.param(
            "aip-plugin-textmodel", "tests/test_conformance.py", id="textmodel-conformance", marks=pytest.mark.slow
        ),
        pytest.param("aip-plugin-ocr", "tests", id="ocr", marks=pytest.mark.slow),
    ],
    indirect=["example"],
)
def test_passes_its_own_tests(example, tests, site):
    """The plugin's tests pass when run as in its README."""
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = forks.run(
        [sys.executable, "-c", code, "-q", "-W", "error", "-p", "no:cacheprovider", example / tests],
        cwd=example,
        env={**os.environ, "PYTHONPATH": str(site)},
        timeout=600,
        children=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
