"""The wheel and the source distribution are complete, and a release is refused if something is missing."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

LISTS = """
import json, sys
from setuptools import Distribution

project = Distribution()
project.script_name = "setup.py"
project.parse_config_files(["pyproject.toml"])
info = project.get_command_obj("egg_info")
info.egg_base = sys.argv[1]
info.ensure_finalized()
info.run()
build = project.get_command_obj("build_py")
build.build_lib = ""
build.ensure_finalized()
print("\\n" + json.dumps([info.filelist.files, build.get_outputs(include_bytecode=False)]))
"""
"""A program that prints the files of the source distribution and of the wheel, without building them."""


def tracked() -> set[str]:
    """Return the files that git tracks."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is not a clone")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_distributions_are_complete(tmp_path: Path) -> None:
    """The source distribution has all tracked files, and the wheel those of the packages: code, data and templates."""
    files = tracked()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTS, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    source, wheel = (set(names) for names in json.loads(done.stdout.splitlines()[-1]))
    assert files - source == set(), "add these to MANIFEST.in"
    packaged = {
        re.sub("^plugins/", "aip_plugins/", name) for name in files if name.startswith(("aipcore/", "plugins/"))
    }
    assert packaged - wheel == set(), "add these to [tool.setuptools.package-data]"
    assert {"LICENSE", "README.md", "Makefile", "constraints.txt", "tests/conftest.py", "docs/index.md"} <= source
    assert {"aipcore/py.typed", "aip_plugins/scenarios/tutorial/data/digits.npz"} <= wheel
    assert [name for name in source - files if "__pycache__" in name or name.endswith(".pyc")] == []


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the release script for a repository with version 0.2.0, released once before, and one fragment."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, text in {
        "aipcore/__init__.py": '__version__ = "0.2.0"\n',
        "changes/README.md": "# Changes\n",
        "changes/faster.md": "Training is\nfaster.\n",
        "CHANGELOG.md": "# Changelog\n\n## 0.1.0 (2026-01-02)\n\n* First release.\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    module.git("init", "--quiet")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org"), ("commit.gpgsign", "false")):
        module.git("config", key, value)
    commit(module)
    return module


def commit(module: Any) -> None:
    """Commit all files of the repository of `releases`."""
    module.git("add", "--all")
    module.git("commit", "--quiet", "--message", "x")


def test_changelog(releases: Any, tmp_path: Path) -> None:
    """The fragments become the newest section of the changelog, once."""
    releases.changelog("2026-03-04")
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text == (
        "# Changelog\n\n## 0.2.0 (2026-03-04)\n\n* Training is faster.\n\n## 0.1.0 (2026-01-02)\n\n* First release.\n"
    )
    assert [path.name for path in (tmp_path / "changes").iterdir()] == ["README.md"]
    with pytest.raises(SystemExit, match=r"has version 0\.2\.0 already"):
        releases.changelog("2026-03-05")


def test_a_release_is_refused(releases: Any, tmp_path: Path) -> None:
    """A release needs an empty changes/, a clean tree, a changelog with this version, and a new tag, in this order."""
    assert releases.refusal().startswith("changes/ has 1 fragments that are not in CHANGELOG.md.")
    (tmp_path / "changes" / "faster.md").unlink()
    assert releases.refusal().startswith("The working tree has changes.")
    commit(releases)
    assert releases.refusal() == (
        "The source has version 0.2.0, but the newest in CHANGELOG.md is 0.1.0. Make them equal."
    )
    with pytest.raises(SystemExit, match="Make them equal"):
        releases.release()
    (tmp_path / "aipcore" / "__init__.py").write_text('__version__ = "0.1.0"\n', encoding="utf-8")
    commit(releases)
    assert releases.refusal() == ""
    releases.git("tag", "v0.1.0")
    assert releases.refusal() == "The tag v0.1.0 exists. Raise __version__ in aipcore/__init__.py."
