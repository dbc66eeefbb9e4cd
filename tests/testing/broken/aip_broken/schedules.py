"""Schedules with one fault each."""

import keras
import tensorflow as tf


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate, in reach of what a run has."""

    def __init__(self, lr, horizon):
        self.lr = lr
        self.horizon = horizon

    def __call__(self, step):
        return tf.constant(self.lr, tf.float32)

    def part(self, step):
        return tf.cast(step, tf.float64) / self.horizon.total_updates


def build_number(params, horizon):
    return params.lr


def build_choosy(params, horizon):
    return Rate(params.lr + 0 / params.warmup_epochs, horizon)


class Double(Rate):
    def __call__(self, step):
        return tf.constant(self.lr, tf.float64)


def build_double(params, horizon):
    return Double(params.lr, horizon)


class Counting(Rate):
    calls = 0

    def __call__(self, step):
        self.calls += 1
        return tf.constant(self.lr / self.calls, tf.float32)


def build_counting(params, horizon):
    return Counting(params.lr, horizon)


class Overflowing(Rate):
    def __call__(self, step):
        high = tf.exp(self.part(step))
        return tf.cast(self.lr * high / high, tf.float32)


def build_overflowing(params, horizon):
    return Overflowing(params.lr, horizon)


class Falling(Rate):
    def __call__(self, step):
        return tf.cast(self.lr * (1 - self.part(step)), tf.float32)


def build_falling(params, horizon):
    return Falling(params.lr, horizon)


class Eager(Rate):
    def __call__(self, step):
        return tf.constant(self.lr * (1 if tf.executing_eagerly() else 2), tf.float32)


def build_eager(params, horizon):
    return Eager(params.lr, horizon)


def build_stubborn(params, horizon):
    return Rate(0.01, horizon)
