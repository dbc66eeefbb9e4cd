"""The project: packages, documents and checks that agree with the code."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_on_disk() -> set[str]:
    """Return every package of the repository that is installed."""
    found = set()
    for folder, name in (("aipcore", "aipcore"), ("plugins", "aip_plugins")):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join((name, *init.parent.relative_to(ROOT / folder).parts)))
    return found


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml, which setuptools cannot generate, names each package."""
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


@pytest.mark.slow
def test_wheel_holds_code_and_data(tmp_path: Path) -> None:
    """A wheel has every module, the included data, their attribution and the licence."""
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
         str(tmp_path), str(ROOT)], check=True, timeout=300,
    )  # fmt: skip
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for folder, name in (("aipcore", "aipcore"), ("plugins", "aip_plugins")):
        for module in (ROOT / folder).rglob("*.py"):
            assert f"{name}/{module.relative_to(ROOT / folder).as_posix()}" in names
    assert "aip_plugins/scenarios/tutorial/data/digits.npz" in names
    assert "aip_plugins/scenarios/tabular_classification/data/penguins.csv" in names
    assert "aip_plugins/scenarios/tutorial/data/ATTRIBUTION.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_readme_has_the_commands_that_ci_runs() -> None:
    """.ci/run takes its test command from the README."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert {"make tutorial", "make test"} <= set(lines)
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["aipcore", "plugins"])
def test_modules_stay_small(package: str) -> None:
    """A module of more than 400 lines has more than one purpose."""
    for module in (ROOT / package).rglob("*.py"):
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 400, module


def test_killed_processes_leave_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The temporary files of a killed process are in pytest's folder, which pytest removes."""
    code = "import os, signal, tempfile; print(tempfile.mkstemp()[1], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.exists()
    assert left.is_relative_to(tmp_path_factory.getbasetemp())
