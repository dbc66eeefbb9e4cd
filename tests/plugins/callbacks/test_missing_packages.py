"""Trackers whose package is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# Simulates an environment without them: the module search finds neither.
HIDING = """
import importlib.util

original = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ("mlflow", "wandb") else original(name, package)
"""


@pytest.mark.parametrize(("name", "module"), [("MLflow", "mlflow"), ("WandB", "wandb")])
def test_missing_package(run_aip: Any, site: Path, tmp_path: Path, name: str, module: str) -> None:
    """One sentence gives the command that installs it, without TensorFlow and without a folder."""
    (site / "sitecustomize.py").write_text(HIDING)
    done = run_aip("train", "tutorial", "--callbacks", name, "--trainer.output_dir", "out")
    assert done.returncode == 2
    assert " ".join(done.stderr.split()) == (
        f"error: The callback {name} needs the package {module}, which is not installed. Run pip install "
        f"'aipcore[{module}]', or leave {name} out of --callbacks."
    )
    assert not (tmp_path / "out").exists()
