"""Packages installed for a test, and the command `aip` in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import forks
import pytest
from sentences import refused

from aipcore.hooks import manager

__all__ = ["refused"]

if not os.environ.get("AIP_TEST_GPU"):
    # TensorFlow reads this when it starts.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# The tests that import TensorFlow themselves use the kernels of the command.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

Install = Callable[..., Path]
RunAip = Callable[..., "subprocess.CompletedProcess[str]"]
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


LONG = ("project", "training", "testing", "parity", "scenarios")
"""Folders with files that take minutes. They run first: a long file at the end would leave other processes idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of `LONG` first."""
    items.sort(key=lambda item: next((at for at, name in enumerate(LONG) if name in item.path.parts), len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set the folder for temporary files of the tests and of the processes that they start.

    TensorFlow and W&B leave files there when their process is killed. pytest removes them with its own folders.
    """
    folder = tmp_path_factory.mktemp("t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def plugin_switches() -> Iterator[None]:
    """Discard the switches of plugins that a command in this process set, such as `-p no:NAME`."""
    yield
    if manager._switches != manager.Switches():
        manager.configure_plugins(manager.Switches())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an empty folder for installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def install(site: Path) -> Install:
    """Return a function that installs a distribution into `site` like pip.

    Its arguments are the distribution's name, the source of its module, and optionally `version`, `entry_points`
    (from the name to the target; by default the distribution's name and module) and `folder`.
    """

    def install(
        name: str,
        source: str | None,
        *,
        version: str = "1.0",
        entry_points: Mapping[str, str] | None = None,
        folder: Path = site,
    ) -> Path:
        module = name.replace("-", "_")
        if source is not None:
            (folder / f"{module}.py").write_text(source, encoding="utf-8")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")
        points = {name: module} if entry_points is None else entry_points
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        (info / "entry_points.txt").write_text(f"[aip]\n{lines}")
        return info

    return install


@pytest.fixture
def run_aip(site: Path, tmp_path: Path) -> RunAip:
    """Return a function that runs `aip` with `site` on the path in a new process and returns the finished process.

    Its arguments are the words after `aip`; keyword arguments are environment variables, except `timeout` in seconds.

    Use it for tests of imports and of variables that Python, Keras or TensorFlow read at their start.
    `fork_aip` takes a fraction of its time for all other tests.
    """

    def run_aip(*words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AIP, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**_environment(), "PYTHONPATH": str(site), **environment},
            timeout=timeout,
        )

    return run_aip


@pytest.fixture
def fork_aip(site: Path, tmp_path: Path) -> RunAip:
    """Return a function that runs `aip` like `run_aip`, but in a process that has imported TensorFlow (see `forks`).

    So have the processes that `aip launch`, `aip sweep` and `aip plugins check` start.
    """

    def fork_aip(*words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**_environment(), "PYTHONPATH": str(site), **environment}
        children = not {"launch", "sweep", "check"}.isdisjoint(words)
        return forks.run([*AIP, *words], cwd=tmp_path, env=env, timeout=timeout, children=children)

    return fork_aip


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "PYTHON", "TF_ENABLE"))}
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1"}


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that creates a trainer of a scenario class with command-line parameters.

    Its arguments are the class, the words, the name of an `output` folder, `exports` (True to export models to it), and
    further arguments of `Trainer`.
    """
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.params import Layer
    from aipcore.scenario.loader import loaded_class
    from aipcore.training.request import make_request
    from aipcore.training.trainer import Trainer

    def make(cls: type[Any], *words: str, output: str | None = None, exports: bool = True, **arguments: Any) -> Trainer:
        request = make_request(loaded_class(cls, {}), [Layer.from_arguments(words)], get_plugin_manager())
        few = {"trainer.random_seed": 7, "trainer.jit_compile": "off", "trainer.epochs": 2}
        if not exports:
            few |= {"trainer.export_best": False, "trainer.export_final": False}
        request.layers.insert(0, Layer.from_mapping("test", few))
        folder = None
        if output is not None:
            folder = tmp_path / output
            folder.mkdir(exist_ok=True)
        return Trainer.from_request(request, output_dir=folder, **{"name": "test", **arguments})

    return make
