"""AdaBelief for Keras 3."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying, moments
from aip_plugins.optimizers.params import AdaBeliefParams
from keras import ops

RECTIFY_FROM = 5.0
"""The length of the averaging window from which rectification applies, as in the published implementations."""


@keras.saving.register_keras_serializable(package="aip")
class AdaBelief(DecayByPath, keras.optimizers.Optimizer):
    """AdaBelief: Adam variant that scales steps by the belief in the gradient.

    With g the gradient, w a variable, t the update (from 1), a the learning rate and all products elementwise:

        m_t = b1 m_(t-1) + (1 - b1) g_t
        s_t = b2 s_(t-1) + (1 - b2) (g_t - m_t)^2 + eps
        m^ = m_t / (1 - b1^t),  s^ = s_t / (1 - b2^t)
        w_t = w_(t-1) - a weight_decay w_(t-1) - a r_t m^ / (sqrt(s^) + eps)

    `amsgrad` replaces s_t by max(s_1 ... s_t). Without `rectify`, r_t is 1. With it, following RAdam,

        p_max = 2 / (1 - b2) - 1,  p_t = p_max - 2 t b2^t / (1 - b2^t)
        r_t = sqrt((p_t - 4) (p_t - 2) p_max / ((p_max - 4) (p_max - 2) p_t))    if p_t >= 5,

    and while p_t < 5 the step is a m^, without the denominator.

    The scalars are computed in float64, since 1 - b2^t loses most of float32's digits in the first updates; the
    moments have the dtype of their variable.

    Args:
        learning_rate: a float or a schedule.
        beta_1, beta_2: b1 and b2.
        epsilon: eps. The paper uses 1e-8, and 1e-14 to 1e-16 in its later experiments, like the default here.
        rectify: see above; on by default, as in version 0.2 of the authors' packages.
        amsgrad: see above.
        weight_decay: decoupled and scaled by the learning rate.

    References:
        Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris and Duncan, "AdaBelief Optimizer: Adapting Stepsizes by the
        Belief in Observed Gradients", NeurIPS 2020. Liu, Jiang, He, Chen, Liu, Gao and Han, "On the Variance of the
        Adaptive Learning Rate and Beyond", ICLR 2020. Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond",
        ICLR 2018.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-14,
        rectify: bool = True,
        amsgrad: bool = False,
        name: str = "adabelief",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.rectify = rectify
        self.amsgrad = amsgrad

    def build(self, variables: Any) -> None:
        """Create a momentum and a belief for each variable, and the largest belief under `amsgrad`."""
        if self.built:
            return
        super().build(variables)
        self._momenta, self._beliefs = self.add_optimizer_variables(variables, ["momentum", "belief"])
        self._largest = self.add_optimizer_variables(variables, "largest_belief") if self.amsgrad else []

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        momentum, belief = self._momenta[index], self._beliefs[index]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        surprise = ops.square(gradient - momentum)
        self.assign_add(belief, (surprise - belief) * (1 - self.beta_2) + self.epsilon)
        spread: Any = belief
        if self.amsgrad:
            self.assign(self._largest[index], ops.maximum(self._largest[index], belief))
            spread = self._largest[index]
        correct_1, correct_2, rectification, trusted = self._scalars()
        rate = ops.cast(learning_rate, "float64")
        plain = ops.cast(rate / correct_1, variable.dtype)
        scaled = ops.cast(rate * rectification / correct_1, variable.dtype)
        root = ops.sqrt(spread / ops.cast(correct_2, variable.dtype)) + self.epsilon
        step = momentum * scaled / root
        if self.rectify:
            step = ops.where(trusted, step, momentum * plain)
        self.assign_sub(variable, step)

    def _scalars(self) -> tuple[Any, Any, Any, Any]:
        """Return 1 - b1^t, 1 - b2^t, r_t, and True if p_t has reached its threshold."""
        t = ops.cast(self.iterations + 1, "float64")
        # Passed unconverted: a cast would round Python's numbers to float32 first.
        power_2 = ops.power(ops.convert_to_tensor(self.beta_2, "float64"), t)
        correct_1 = 1 - ops.power(ops.convert_to_tensor(self.beta_1, "float64"), t)
        correct_2 = 1 - power_2
        longest = 2 / (1 - self.beta_2) - 1
        if not self.rectify:
            return correct_1, correct_2, 1.0, True
        if longest < RECTIFY_FROM:
            return correct_1, correct_2, 1.0, False
        length = longest - 2 * t * power_2 / correct_2
        trusted = length >= RECTIFY_FROM
        safe = ops.where(trusted, length, RECTIFY_FROM)
        variance = (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        return correct_1, correct_2, ops.sqrt(variance), trusted

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "rectify": self.rectify,
            "amsgrad": self.amsgrad,
        }


def build_adabelief(params: AdaBeliefParams, learning_rate: Any) -> AdaBelief:
    """Return the optimizer."""
    return decaying(
        AdaBelief,
        params,
        learning_rate=learning_rate,
        **moments(params),
        rectify=params.rectify,
        amsgrad=params.amsgrad,
    )  # type: ignore[no-any-return]
