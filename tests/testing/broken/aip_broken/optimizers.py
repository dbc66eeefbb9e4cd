"""Optimizers with one fault each."""

import keras
import numpy as np
import tensorflow as tf

from aipcore.testing import GoldenSteps


class Descent(keras.optimizers.SGD):
    """Gradient descent with momentum."""

    def __init__(self, rate, params, **more):
        super().__init__(rate, momentum=params.momentum, **more)


def build(params, learning_rate):
    return Descent(learning_rate, params)


def build_name(params, learning_rate):
    return "sgd"


def build_choosy(params, learning_rate):
    if params.warmup == 0:
        raise ZeroDivisionError("division by zero")
    return Descent(learning_rate, params)


class Restless(Descent):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, keras.ops.maximum(learning_rate, 1e-5))


def build_restless(params, learning_rate):
    return Restless(learning_rate, params)


def build_clipping(params, learning_rate):
    return Descent(learning_rate, params, clipnorm=params.clip_norm)


def golden():
    gradients = np.ones((3, 2))
    return GoldenSteps(
        params={"momentum": 0.0},
        learning_rate=0.1,
        start=np.zeros(2),
        gradients=gradients,
        weights=-0.1 * np.cumsum(gradients, axis=0) - np.array([[0.0], [0.0], [1e-3]]),
    )


class SlowForVectors(Descent):
    def update_step(self, gradient, variable, learning_rate):
        slow = 1e-4 if len(variable.shape) == 1 else 1.0
        super().update_step(gradient, variable, learning_rate * slow)


def build_slow_for_vectors(params, learning_rate):
    return SlowForVectors(learning_rate, params)


class Tired(Descent):
    def update_step(self, gradient, variable, learning_rate):
        awake = keras.ops.cast(self.iterations < 150, learning_rate.dtype)
        super().update_step(gradient * keras.ops.cast(awake, gradient.dtype), variable, learning_rate * awake)


def build_tired(params, learning_rate):
    return Tired(learning_rate, params)


class CountingTwice(Descent):
    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)
        self.iterations.assign_add(1)


def build_counting_twice(params, learning_rate):
    return CountingTwice(learning_rate, params)


def build_adam(params, learning_rate):
    return keras.optimizers.Adam(learning_rate)


class Forgetful(keras.optimizers.SGD):
    def build(self, variables):
        super().build(variables)
        self.kept = {
            str(variable.shape): tf.Variable(tf.zeros(variable.shape, variable.dtype)) for variable in variables
        }

    def update_step(self, gradient, variable, learning_rate):
        kept = self.kept[str(variable.shape)]
        rate = keras.ops.cast(learning_rate, variable.dtype)
        kept.assign(0.9 * kept - rate * keras.ops.cast(gradient, variable.dtype))
        self.assign_add(variable, kept.value())


def build_forgetful(params, learning_rate):
    return Forgetful(learning_rate)


class Uncompilable(Descent):
    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) == 4:
            gradient = tf.ensure_shape(tf.py_function(lambda value: value, [gradient], gradient.dtype), variable.shape)
        super().update_step(gradient, variable, learning_rate)


def build_uncompilable(params, learning_rate):
    return Uncompilable(learning_rate, params)
