"""LAMB for Keras 3, with the paper's weight decay."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying, moments
from aip_plugins.optimizers.params import LAMBParams
from keras import ops


@keras.saving.register_keras_serializable(package="aip")
class LAMB(DecayByPath, keras.optimizers.Optimizer):
    """LAMB: Adam's direction, with the step of each variable proportional to the variable's norm.

    With g the gradient, w a variable, t the update (from 1) and a the learning rate:

        m_t = b1 m_(t-1) + (1 - b1) g_t,    v_t = b2 v_(t-1) + (1 - b2) g_t^2
        u = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps) + weight_decay w_(t-1)
        w_t = w_(t-1) - a (|w_(t-1)| / |u|) u

    where the ratio of norms is 1 if either norm is 0. `keras.optimizers.Lamb` moves weight decay out of u, which loses
    the paper's bound on the step. This class keeps it in u.

    Args:
        learning_rate: a float or a schedule.
        beta_1, beta_2, epsilon: b1, b2 and eps.
        decay: weight_decay above.

    Reference:
        You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer and Hsieh, "Large Batch Optimization for Deep
        Learning: Training BERT in 76 minutes", ICLR 2020, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float | None = None,
        name: str = "lamb",
        **kwargs: Any,
    ) -> None:
        # Not passed on: Keras would apply its weight_decay before the step.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decay = weight_decay or 0.0

    def build(self, variables: Any) -> None:
        """Create both moments for each variable."""
        if self.built:
            return
        super().build(variables)
        # update_step receives TensorFlow's variables, which have no path.
        self._kept = {index for index, variable in enumerate(variables) if variable.path in self.excluded}
        self._momenta, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        momentum, velocity = self._momenta[index], self._velocities[index]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - self.beta_2))
        t = ops.cast(self.iterations + 1, "float64")
        # Passed unconverted: a cast would round Python's numbers to float32 first.
        correct_1 = ops.cast(1 - ops.power(ops.convert_to_tensor(self.beta_1, "float64"), t), variable.dtype)
        correct_2 = ops.cast(1 - ops.power(ops.convert_to_tensor(self.beta_2, "float64"), t), variable.dtype)
        step = (momentum / correct_1) / (ops.sqrt(velocity / correct_2) + self.epsilon)
        if self.decay and index not in self._kept:
            step = step + self.decay * variable
        weight_norm = ops.sqrt(ops.sum(ops.square(variable)))
        step_norm = ops.sqrt(ops.sum(ops.square(step)))
        defined = ops.logical_and(weight_norm > 0, step_norm > 0)
        ratio = ops.where(defined, weight_norm / ops.where(defined, step_norm, 1.0), 1.0)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * ratio * step)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "weight_decay": self.decay or None,
        }


def build_lamb(params: LAMBParams, learning_rate: Any) -> LAMB:
    """Return the optimizer."""
    return decaying(
        LAMB,
        params,
        learning_rate=learning_rate,
        **moments(params),
    )  # type: ignore[no-any-return]
