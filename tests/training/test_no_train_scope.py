"""Freezing layers by a regular expression."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import ParamsError


def with_encoder(base: Any) -> Any:
    """Return a scenario whose model has a nested model with batch normalisation."""

    class Nested(base):  # type: ignore[misc]
        def build(self, inputs: Any) -> Any:
            inner = keras.Sequential(
                [keras.layers.Dense(8, name="first"), keras.layers.BatchNormalization(name="norm")], name="encoder"
            )
            return keras.layers.Dense(4, name="head")(inner(inputs))

    return Nested


def weights_by_path(trainer: Any) -> dict[str, Any]:
    """Return copies of all model variables by path."""
    return {name: value for name, value in trainer.state.variables.read().items() if name.startswith("model/")}


@pytest.mark.parametrize("pattern", ["encoder", "enc.*", "encoder/.*"])
def test_freezes_a_layer_and_its_children(make_trainer: Any, blobs_class: Any, pattern: str) -> None:
    """The frozen part keeps every bit, including batch-norm statistics; the rest is trained."""
    trainer = make_trainer(with_encoder(blobs_class), "--trainer.no_train_scope", pattern)
    assert [path for path, _ in trainer.engine.frozen] == ["encoder/first", "encoder/norm"]
    before = weights_by_path(trainer)
    trainer.fit()
    after = weights_by_path(trainer)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if "head" in name}
    assert all("first" not in variable.path for variable in trainer.engine.optimizer.variables)


def test_matches_whole_paths(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """`first` does not match a whole path; `.*first` does."""
    with refused(ParamsError):
        make_trainer(with_encoder(blobs_class), "--trainer.no_train_scope", "first")
    trainer = make_trainer(with_encoder(blobs_class), "--trainer.no_train_scope", ".*first")
    assert [path for path, _ in trainer.engine.frozen] == ["encoder/first"]


def test_freezing_everything_is_refused(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """Freezing every layer is refused."""
    with refused(ParamsError):
        make_trainer(with_encoder(blobs_class), "--trainer.no_train_scope", ".*")
