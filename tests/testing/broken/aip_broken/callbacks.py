"""Callbacks with one fault each."""

from pathlib import Path

import keras
import numpy as np


class Observer(keras.callbacks.Callback):
    """A callback that counts epochs."""

    def __init__(self, context):
        super().__init__()
        self.context = context
        self.epochs = 0
        self.best = np.float32(0.1)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1

    def get_state(self):
        return {"epochs": self.epochs, "array": np.arange(self.epochs, dtype=np.float32), "best": self.best}

    def set_state(self, state):
        self.epochs = state["epochs"]
        self.best = float(state["best"])


def build_builds(params, context):
    return print


def build_builds_at_its_limits(params, context):
    return Observer(context if 1 / params.every else None)


class Demanding(Observer):
    def on_epoch_end(self, epoch, logs=None):
        self.best = logs["val_loss"]


def build_runs_in_training(params, context):
    return Demanding(context)


class Greedy(Observer):
    def on_epoch_end(self, epoch, logs=None):
        logs.pop("loss")


def build_keeps_the_order_of_hooks(params, context):
    return Greedy(context)


class Meddler(Observer):
    def on_epoch_begin(self, epoch, logs=None):
        weight = self.model.trainable_variables[0]
        weight.assign(weight * 0.999)


def build_changes_nothing(params, context):
    return Meddler(context)


class Amnesiac(Observer):
    def set_state(self, state):
        self.epochs = 0


def build_keeps_its_state(params, context):
    return Amnesiac(context)


class Slowing(keras.callbacks.Callback):
    def __init__(self, context):
        super().__init__()
        self.context = context
        self.waited = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.waited += 1
        if self.waited == 3:
            self.context.learning_rate.scale.assign(0.1)


def build_resumes_bit_identically(params, context):
    return Slowing(context)


class Littering(Observer):
    def on_train_end(self, logs=None):
        Path("epochs.txt").write_text(str(self.epochs), encoding="utf-8")


def build_writes_into_its_folder(params, context):
    return Littering(context)
