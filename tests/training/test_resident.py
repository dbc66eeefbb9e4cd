"""Data on the device: the same training as with data that is sent from the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

WORDS = ("--trainer.epochs", "3", "--train.batch_size", "16", "--trainer.random_seed", "4")


def weights(trainer: Any) -> list[Any]:
    """Return all variables of a model after training."""
    return [variable.numpy() for variable in trainer.model.variables]


@pytest.mark.parametrize(
    "how",
    [
        (),
        pytest.param(("--trainer.jit_compile", "on"), marks=pytest.mark.slow),
        pytest.param(("--trainer.accumulate_steps", "3"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_same_training(make_trainer: Any, noisy_class: Any, how: tuple[str, ...], monkeypatch: Any) -> None:
    """Batches are those that the host would have gathered, including the partial last one."""
    trainers = []
    for most in (2**28, 0):
        monkeypatch.setattr("aipcore.data.device_cache.MOST_BYTES", most)
        trainer = make_trainer(noisy_class, *WORDS, *how)
        assert list(trainer.engine.loader.dataset.specs()[0]) == (["numbers"] if most else [""])
        trainer.fit()
        # One trace for blocks, and one for the partial batch if XLA compiles the others.
        assert trainer.engine.loop.traces == (2 if "on" in how else 1)
        trainers.append(trainer)
    for one, other in zip(*map(weights, trainers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert trainers[0].state.history[-1]["loss"] == pytest.approx(trainers[1].state.history[-1]["loss"], rel=1e-6)


def test_xla_is_compiled_for_one_shape(make_trainer: Any, blobs_class: Any) -> None:
    """Calls with any number of batches use the shape of an epoch, so that no number causes a compilation."""
    trainer = make_trainer(blobs_class, *WORDS, "--trainer.jit_compile", "on", "--checkpoint.every_steps", "5")
    trainer.fit()
    assert trainer._chunks.chunk == 5
    rooms = {len(block.inputs["numbers"]) for block in trainer._chunks.blocks(0, 0) if block.batch_size == 16}
    assert rooms == {12}
