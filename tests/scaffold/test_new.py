"""`aip plugins new`: packages that work immediately."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import forks
import pytest
import yaml

from aipcore.errors import PluginError
from aipcore.hooks.discovery import KINDS
from aipcore.hooks.manager import get_plugin_manager
from aipcore.scaffold.bake import bake, next_commands
from aipcore.scaffold.names import names_for

NAMES = {
    "optimizer": "SignSGD",
    "schedule": "triangle-wave",
    "scenario": "ring_world",
    "callback": "BestLogger",
    "exporter": "Weights",
    "writer": "winners",
    "command": "greet",
}


def test_every_kind_has_a_template() -> None:
    """Every kind of plugin has a template."""
    assert set(NAMES) == set(KINDS)


@pytest.mark.parametrize(
    ("given", "distribution", "cls"),
    [
        ("SignSGD", "aip-plugin-sign-sgd", "SignSGD"),
        ("sign-sgd", "aip-plugin-sign-sgd", "SignSgd"),
        ("sign_sgd2", "aip-plugin-sign-sgd2", "SignSgd2"),
        ("LAMBPlus", "aip-plugin-lamb-plus", "LAMBPlus"),
        ("aip-plugin-x", "aip-plugin-x", "X"),
    ],
)
def test_names(given: str, distribution: str, cls: str) -> None:
    """All names are derived from one; that of the distribution is normalised, the others are identifiers."""
    names = names_for("optimizer", given, get_plugin_manager())
    assert (names.distribution, names.cls) == (distribution, cls)
    assert names.package == distribution.replace("-", "_")
    assert names.package.isidentifier()


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("optimizer", "1st", "'1st' is not a valid plugin name. Use at most 40 letters"),
        ("optimizer", "a--b", "is not a valid plugin name"),
        ("optimizer", "sign sgd", "is not a valid plugin name"),
        ("optimizer", "../x", "is not a valid plugin name"),
        ("optimizer", "", "is not a valid plugin name"),
        ("optimizer", "é", "is not a valid plugin name"),
        ("optimizer", "x" * 41, "is not a valid plugin name"),
        ("command", "import", "'import' is a keyword of Python"),
        ("optimizer", "ada-belief", "The name ada-belief is taken by the optimizer of aipcore"),
        ("command", "train", "The command name train is reserved for aip"),
    ],
)
def test_bad_names(kind: str, given: str, message: str) -> None:
    """An invalid or existing name is refused with the reason."""
    with pytest.raises(PluginError) as error:
        names_for(kind, given, get_plugin_manager())
    assert message in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_style(kind: str, tmp_path: Path) -> None:
    """The output is formatted, passes ruff, and names its entry point, without unfilled placeholders.

    So it is with the longest name, and with one that has a part of the name of a template.
    """
    names = names_for(kind, NAMES[kind], get_plugin_manager())
    folder = tmp_path / "package"
    for given, target in (
        ("A" + 39 * "b", tmp_path / "long"),
        ("dot_PACKAGE", tmp_path / "dot"),
        (NAMES[kind], folder),
    ):
        made = names_for(kind, given, get_plugin_manager())
        for path in bake(made, target):
            assert "@@" not in (target / path).read_text(encoding="utf-8")
        assert (target / "src" / made.package / "__init__.py").is_file()
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *words, "--no-cache", "."], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == names.distribution
    assert project["project"]["entry-points"]["aip"] == {names.point: names.package}
    assert {"README.md", ".gitignore", ".github", "docs", "src", "tests"} <= {path.name for path in folder.iterdir()}
    workflow = (folder / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "${{ matrix.python }}" in workflow
    for page in ("README.md", "docs/index.md"):
        assert next_commands(names, folder)[-1] in (folder / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(("tag", "published"), [("v0.1.0", True), ("v0.2.0", False), ("0.1.0", False)])
def test_release_workflow(tag: str, published: bool, tmp_path: Path) -> None:
    """A tag publishes only the version of the package, and only the job that publishes has the permission to do so."""
    names = names_for("optimizer", "SignSGD", get_plugin_manager())
    bake(names, tmp_path / "package")
    text = (tmp_path / "package" / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "permissions" not in jobs["build"]
    steps = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert f"aip plugins check {names.plugin} --kind optimizer" in steps
    env = {"GITHUB_REF_NAME": tag, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    compared = subprocess.run(["bash", "-ec", steps[0]], cwd=tmp_path / "package", env=env, check=False)
    assert (compared.returncode == 0) is published


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_never_overwrites(there: str, tmp_path: Path, fork_aip) -> None:
    """Existing paths stay unchanged: an empty folder, a file, a dangling link."""
    target = tmp_path / "mine"
    if there == "folder":
        target.mkdir()
    elif there == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    done = fork_aip("plugins", "new", "optimizer", "SignSGD", "--output", "mine")
    assert (done.returncode, done.stderr) == (
        2,
        "error: mine already exists. Choose another folder with --output.\n",
    )
    assert not (tmp_path / "nowhere").exists()
    assert not target.is_dir() or not list(target.iterdir())


def test_prints_the_next_commands(tmp_path: Path, fork_aip) -> None:
    """The output lists the files and the next commands; the folder has the package's name."""
    done = fork_aip("plugins", "new", "schedule", "Triangle")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "aip-plugin-triangle"
    assert (folder / "src" / "aip_plugin_triangle" / "schedule.py").is_file()
    assert done.stdout.splitlines()[-6:] == [
        "Next:",
        "  cd aip-plugin-triangle",
        "  python -m pip install --editable '.[test]'",
        "  aip plugins check Triangle",
        "  python -m pytest",
        "  aip train tutorial --learning_rate Triangle",
    ]


def pip(*words: object) -> None:
    """Run pip without a network."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_life_of_a_package(kind: str, tmp_path: Path, site: Path, fork_aip) -> None:
    """A package is created, installed by pip, checked, tested, used in training and uninstalled."""
    name = NAMES[kind]
    assert fork_aip("plugins", "new", kind, name, "--output", "package").returncode == 0
    package = tmp_path / "package"
    pip("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", site, package)
    checked = fork_aip("plugins", "check", name, "--kind", kind)
    assert checked.returncode == 0, checked.stdout
    assert "0 passed" not in checked.stdout
    tested = forks.run(
        # pytest would repeat the checks of `aip plugins check`: once is enough.
        [
            sys.executable, "-c", "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))", "-q", "-W", "error", "-p",
            "no:cacheprovider", *(() if kind == "schedule" else ("--deselect", "tests/test_conformance.py")),
        ],
        cwd=package, env={**os.environ, "PYTHONPATH": str(site)}, children=True,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout[-3000:]
    words = {
        "optimizer": ["train", "tutorial", "--optimizer", name],
        "schedule": ["train", "tutorial", "--learning_rate", name],
        "scenario": ["train", name],
        "callback": ["train", "tutorial", "--callbacks", name],
        "exporter": ["train", "tutorial", "--export.formats", name],
        "writer": ["predict", "run", "--output", f"found.{name}"],
        "command": [name],
    }[kind]
    if kind == "writer":
        assert fork_aip("train", "tutorial", "--trainer.epochs", "1", "--trainer.output_dir", "run").returncode == 0
    elif kind != "command":
        words += ["--trainer.epochs", "1", "--trainer.output_dir", "run"]
    used = fork_aip(*words)
    assert used.returncode == 0, used.stderr
    if kind == "exporter":
        assert (tmp_path / "run" / "export" / "weights.npz").is_file()
    if kind == "writer":
        assert (tmp_path / f"found.{name}").read_text(encoding="utf-8").startswith("0\t")
    if kind == "callback":
        assert "the best so far" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    for part in site.iterdir():
        shutil.rmtree(part)
    gone = fork_aip("plugins", "show", name)
    assert gone.returncode == 2
