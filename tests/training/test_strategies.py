"""Several devices that share each batch: the results of one device, and exact resuming."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "several_devices.py"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of `several_devices.py`, on two devices that are halves of the CPU."""
    folder = tmp_path_factory.mktemp("several")
    done = forks.run([sys.executable, str(SCRIPT), str(folder)], timeout=600)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


def with_prefix(found: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the results whose names start with a word, by the rest of their names."""
    chosen = {name.removeprefix(f"{prefix} "): each for name, each in found.items() if name.startswith(f"{prefix} ")}
    assert chosen
    return chosen


def test_same_numbers_as_one_device(found: dict[str, Any]) -> None:
    """Losses, metrics and validation of each epoch agree to 1e-6, with clipping, decay, a schedule and EMA."""
    optimizers, strategies = found["compared"]
    for optimizer, strategy in itertools.product(optimizers, strategies):
        case = f"{optimizer} {strategy}"
        expected = found[f"losses {optimizer} none"]
        np.testing.assert_allclose(found[f"losses {case}"], expected, rtol=1e-6, atol=1e-6, err_msg=case)
        assert found[f"distance {case}"] < 2e-4, case
        # Values by update, and validations within epochs.
        for name, count in (("steps", 9), ("validations", 10)):
            assert len(found[f"{name} {case}"]) == count, case
            ours, theirs = (np.array(found[f"{name} {optimizer} {way}"]) for way in (strategy, "none"))
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=case)


def test_one_trace(found: dict[str, Any]) -> None:
    """Full blocks and the partial last batch share one trace."""
    assert set(with_prefix(found, "traces").values()) == {1}


def test_trap_accumulation_on_several_devices(found: dict[str, Any]) -> None:
    """Groups of 4 batches equal the large batch, where Keras' gradient_accumulation_steps fails."""
    assert max(with_prefix(found, "accumulated").values()) < 2e-4


def test_losses_of_every_kind(found: dict[str, Any]) -> None:
    """Masked, weighted, summed and scalar losses on replicas and in groups equal those of one large batch."""
    large = found["heads none 1"]
    for case, histories in with_prefix(found, "heads").items():
        for ours, theirs in zip(histories, large, strict=True):
            assert {"masked_loss", "weighted_loss", "ignored_loss", "sum_loss", "mean_of_weights_loss"} <= ours.keys()
            for name, value in theirs.items():
                assert ours[name] == pytest.approx(value, rel=1e-6), (case, name)
        for ours, theirs in zip(found[f"head weights {case}"], found["head weights none 1"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=case)


def test_several_updates(found: dict[str, Any]) -> None:
    """Weights, optimizers and losses of several updates agree to 1e-5, with numbers drawn in the losses."""
    assert max(with_prefix(found, "updates").values()) < 1e-5
    for first, second in with_prefix(found, "losses of updates").values():
        for ours, theirs in zip(first, second, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def test_resumes_exactly(found: dict[str, Any]) -> None:
    """Dropout, batch norm, EMA and accumulation resume bit-identically from a checkpoint."""
    assert set(with_prefix(found, "resumed in").values()) == {1}
    assert all(with_prefix(found, "history").values())
    assert all(with_prefix(found, "equal").values())


def test_moves_to_one_device_and_back(found: dict[str, Any]) -> None:
    """The state of two devices at the end of an epoch, dropout included, is that after a move to one device and back.

    The compilation is chosen again, since XLA compiles only for one device.
    """
    assert not found["moved compiled"]
    assert found["moved different"] == []
    assert np.isfinite(found["moved loss"])


def test_replicas_have_independent_dropout(found: dict[str, Any]) -> None:
    """The seeds of the replicas differ, and both are part of the state."""
    name = "model/dropout/seed_generator_state"
    assert found["seeds mirror"] == [name, f"{name}@1"]


def test_evaluator_sees_each_sample_once_in_order(found: dict[str, Any]) -> None:
    """The outputs of the replicas are concatenated in the order of the data."""
    for evaluated in with_prefix(found, "evaluated").values():
        for share, accuracy, in_order in evaluated:
            assert share == pytest.approx(accuracy)
            assert in_order == 1


def test_export(found: dict[str, Any]) -> None:
    """The exported model is an ordinary one for one device and scores the printed value."""
    for share, printed in with_prefix(found, "exported").values():
        assert share == pytest.approx(printed)


def test_float16(found: dict[str, Any]) -> None:
    """Loss scaling works across replicas."""
    assert found["float16"] > 0.8


def test_plan(found: dict[str, Any]) -> None:
    """The plan shows the devices."""
    device, loop = found["plan"]
    assert device == "CPU:0, CPU:1 share each batch; the weights are kept on each, in float16 with float32 weights"
    assert "XLA cannot compile for several devices" in loop


def test_refusals(found: dict[str, Any]) -> None:
    """Invalid combinations are refused in one sentence."""
    assert found["refused --train.batch_size"] == (
        "--train.batch_size 1 cannot be split among 2 devices. Use at least 2, or fewer devices."
    )
    assert "--device.strategy none" in found["refused --trainer.jit_compile"]
