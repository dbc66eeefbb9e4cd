"""The Lookahead optimizer, wrapped around Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from aip_plugin_lookahead.params import LookaheadParams


@keras.saving.register_keras_serializable(package="aip_plugin_lookahead")
class Lookahead(keras.optimizers.Adam):
    """Adam on fast weights w; every k-th step moves slow weights s towards w and resets w to s.

    With update t, counted from 1, and s_0 = w_0:

        w_t = Adam(w_(t-1), g_t)
        s_t = s_(t-1) + alpha (w_t - s_(t-1)) and w_t = s_t    if k divides t, else s_t = s_(t-1)

    Adam's averages are not reset. k = 1 with alpha = 1 is Adam.

    Args:
        k: steps of the fast weights per step of the slow weights.
        alpha: step size of the slow weights, from 0 (the weights never move) to 1 (the weights are Adam's).
        kwargs: arguments of `keras.optimizers.Adam`.

    Reference:
        Zhang, Lucas, Hinton and Ba, "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019, algorithm 1.
    """

    def __init__(self, *args: Any, k: int = 6, alpha: float = 0.5, name: str = "lookahead", **kwargs: Any) -> None:
        super().__init__(*args, name=name, **kwargs)
        self.k = k
        self.alpha = alpha

    def build(self, variables: Sequence[Any]) -> None:
        """Create Adam's averages and the slow weights."""
        if self.built:
            return
        super().build(variables)
        self._slow = self.add_optimizer_variables(variables, "slow")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, without branches so that XLA can compile it."""
        slow = self._slow[self._get_variable_index(variable)]
        # The slow weights start from the initial weights of training, which a warm start may set after `build`.
        first = ops.equal(self.iterations, 0)
        self.assign(slow, ops.where(first, variable, slow))
        super().update_step(gradient, variable, learning_rate)
        step_back = ops.equal(ops.mod(self.iterations + 1, self.k), 0)
        moved = slow + self.alpha * (variable - slow)
        self.assign(slow, ops.where(step_back, moved, slow))
        self.assign(variable, ops.where(step_back, slow, variable))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "k": self.k, "alpha": self.alpha}


def build(params: LookaheadParams, learning_rate: Any) -> Lookahead:
    """Build the optimizer. aip calls this function and clips gradients in its own training loop."""
    return Lookahead(
        learning_rate,
        k=params.k,
        alpha=params.alpha,
        beta_1=params.beta_1,
        beta_2=params.beta_2,
        epsilon=params.epsilon,
    )
