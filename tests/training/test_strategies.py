"""Several devices that share each batch: the same numbers as one device, and exact resuming."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "several_devices.py"
SEVERAL = ("mirror", "central_storage")
OPTIMIZERS = ("SGD", "Adam", "AdaBelief", "LAMB")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `several_devices.py` found, on two devices that are halves of the CPU."""
    folder = tmp_path_factory.mktemp("several")
    done = forks.run([sys.executable, str(SCRIPT), str(folder)], timeout=600)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("strategy", SEVERAL)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_numbers_as_one_device(found: dict[str, Any], optimizer: str, strategy: str) -> None:
    """Losses, metrics and validation of each epoch to 1e-6, with clipping, decay, a schedule and EMA."""
    np.testing.assert_allclose(
        found[f"losses {optimizer} {strategy}"], found[f"losses {optimizer} none"], rtol=1e-6, atol=1e-6
    )
    assert found[f"distance {optimizer} {strategy}"] < 2e-4


@pytest.mark.parametrize("strategy", SEVERAL)
def test_one_trace(found: dict[str, Any], strategy: str) -> None:
    """Full blocks and the partial last batch share one trace."""
    assert all(found[f"traces {optimizer} {strategy}"] == 1 for optimizer in OPTIMIZERS)


@pytest.mark.parametrize("strategy", ["none", *SEVERAL])
def test_trap_accumulation_on_several_devices(found: dict[str, Any], strategy: str) -> None:
    """Groups of 4 batches are the large batch, where Keras' gradient_accumulation_steps fails."""
    assert found[f"accumulated {strategy}"] < 2e-4


@pytest.mark.parametrize(("strategy", "group"), [("none", 2), ("mirror", 1), ("mirror", 2), ("central_storage", 2)])
def test_losses_of_every_kind(found: dict[str, Any], strategy: str, group: int) -> None:
    """Masked, weighted, summed and scalar losses on replicas and in groups are those of one large batch."""
    large = found["heads none 1"]
    for ours, theirs in zip(found[f"heads {strategy} {group}"], large, strict=True):
        assert {"masked_loss", "weighted_loss", "ignored_loss", "sum_loss", "mean_of_weights_loss"} <= ours.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-6), name
    for ours, theirs in zip(found[f"head weights {strategy} {group}"], found["head weights none 1"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strategy", SEVERAL)
def test_resumes_exactly(found: dict[str, Any], strategy: str) -> None:
    """Dropout, batch norm, EMA and accumulation go on from a checkpoint to the same bits."""
    assert found[f"resumed in {strategy}"] == 1
    assert found[f"history {strategy}"]
    assert found[f"equal {strategy}"]


def test_each_replica_drops_out_on_its_own(found: dict[str, Any]) -> None:
    """The seeds of the replicas differ, and both are part of the state."""
    name = "model/dropout/seed_generator_state"
    assert found["seeds mirror"] == [name, f"{name}@1"]


@pytest.mark.parametrize("strategy", SEVERAL)
def test_evaluator_sees_each_sample_once_in_order(found: dict[str, Any], strategy: str) -> None:
    """The outputs of the replicas are put together in the order of the data."""
    for share, accuracy, in_order in found[f"evaluated {strategy}"]:
        assert share == pytest.approx(accuracy)
        assert in_order == 1


@pytest.mark.parametrize("strategy", SEVERAL)
def test_export(found: dict[str, Any], strategy: str) -> None:
    """The exported model is an ordinary one for one device and scores what was printed."""
    share, printed = found[f"exported {strategy}"]
    assert share == pytest.approx(printed)


def test_float16(found: dict[str, Any]) -> None:
    """Loss scaling works across replicas."""
    assert found["float16"] > 0.8


def test_plan(found: dict[str, Any]) -> None:
    """It says what runs where."""
    device, loop = found["plan"]
    assert device == "CPU:0, CPU:1 share each batch; the weights are kept on each, in float16 with float32 weights"
    assert "several devices share each batch" in loop


def test_refusals(found: dict[str, Any]) -> None:
    """What cannot be split or compiled is one sentence."""
    assert found["refused --train.batch_size"] == (
        "--train.batch_size 1 cannot be split among 2 devices: give at least 2, or use fewer devices."
    )
    assert "--device.strategy none" in found["refused --trainer.jit_compile"]
