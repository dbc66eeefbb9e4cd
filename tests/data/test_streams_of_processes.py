"""Two processes that share the batches of a stream train as one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import forks
import numpy as np
import pytest

from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

AIP = (sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())")
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generator", "tf.data samples", "grain IterDataset"])
def test_two_processes_give_the_numbers_of_one(kind: str, tmp_path: Path) -> None:
    """`aip launch --workers 2` gives the losses and weights of one process, up to rounding."""
    text = f"from sources import JitteredPoints\n\n\nclass Shared(JitteredPoints):\n    kind = {kind!r}\n"
    (tmp_path / "shared.py").write_text(text)
    found = []
    for name, launch in (("one", ()), ("two", ("launch", "--workers", "2"))):
        words = ("train", "shared.py", "--trainer.output_dir", name, "--trainer.random_seed", "3", "--quiet",
                 "--trainer.export_best", "false", "--trainer.export_final", "false")  # fmt: skip
        done = forks.run(
            [*AIP, *launch, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SUPPORT), "NO_COLOR": "1"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stored = read_checkpoint(newest_checkpoint(tmp_path / name / "checkpoint"))
        weights = {name: each for name, each in stored.arrays.items() if name.startswith("model/")}
        found.append((stored.progress["history"], weights))
    (one, ours), (two, theirs) = found
    assert len(one) == len(two) == 3
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose([each[key] for each in one], [each[key] for each in two], rtol=1e-5)
    assert ours
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-5)
