"""Whole optimizers against those of optax: 200 steps on a problem whose gradient depends on the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

STEPS = 200
RATE = 2.0**-7
DECAY = 2.0**-4
BETAS = {"beta_1": 0.9, "beta_2": 0.999}
PEERS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "AdaBelief": (
        {**BETAS, "epsilon": 1e-14, "rectify": False},
        lambda optax: optax.adabelief(RATE, b1=0.9, b2=0.999, eps=1e-14, eps_root=1e-14),
    ),
    "Adam": ({**BETAS, "epsilon": 1e-12}, lambda optax: optax.adam(RATE, b1=0.9, b2=0.999, eps=1e-12)),
    "AdamW": (
        {**BETAS, "epsilon": 1e-12, "weight_decay": DECAY},
        lambda optax: optax.adamw(RATE, b1=0.9, b2=0.999, eps=1e-12, weight_decay=DECAY),
    ),
    "Adamax": ({**BETAS, "epsilon": 1e-12}, lambda optax: optax.adamax(RATE, b1=0.9, b2=0.999, eps=1e-12)),
    "LAMB": (
        {**BETAS, "epsilon": 1e-6, "weight_decay": DECAY},
        lambda optax: optax.lamb(RATE, b1=0.9, b2=0.999, eps=1e-6, weight_decay=DECAY),
    ),
    "Lion": (
        {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": DECAY},
        lambda optax: optax.lion(RATE, b1=0.9, b2=0.99, weight_decay=DECAY),
    ),
    "RMSprop": (
        {"rho": 0.9, "epsilon": 1e-7},
        lambda optax: optax.rmsprop(RATE, decay=0.9, eps=1e-7, eps_in_sqrt=True),
    ),
    "SGD": (
        {"momentum": 0.9, "nesterov": True},
        lambda optax: optax.sgd(RATE, momentum=0.9, nesterov=True),
    ),
}


@pytest.fixture
def optax() -> Iterator[Any]:
    """Yield optax, computing in float64 during the test, so that only aip's results are rounded."""
    jax = pytest.importorskip("jax", reason="optax, the published second implementation, is in the extra [test]")
    optax = pytest.importorskip("optax", reason="optax, the published second implementation, is in the extra [test]")
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("peer", PEERS)
def test_equals_optax(peer: str, dtype: str, optax: Any, make_optimizer: Any, make_variables: Any) -> None:
    """After 200 steps, the error of the weights is below 1e-5 of their size, in either dtype."""
    options, make_peer = PEERS[peer]
    random = np.random.default_rng(9)
    start, target = random.normal(size=(6, 4)), random.normal(size=(6, 4))
    noise = random.normal(size=(STEPS, 6, 4))
    transformation = make_peer(optax)
    w, state = start, transformation.init(start)
    variables = make_variables(dtype, w=start)
    optimizer = make_optimizer(peer, RATE, **options)
    optimizer.build(variables)
    step = tf.function(lambda given: optimizer.apply([given], variables), autograph=False)
    for each in noise:
        # Both get the same gradient, so that only the updates differ and not a chaotic path.
        gradient = w - target + each
        update, state = transformation.update(gradient, state, w)
        w = w + np.asarray(update)
        step(tf.constant(gradient, dtype))
    assert np.linalg.norm(variables[0].numpy() - w) < 1e-5 * np.linalg.norm(w)
