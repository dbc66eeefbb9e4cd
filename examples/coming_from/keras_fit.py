"""A script for `Model.fit`. `keras_scenario.py` is the same training as a scenario."""

import keras
import numpy as np
import tensorflow as tf


def dataset(seed, samples):
    x = np.random.default_rng(seed).uniform(-2, 2, (samples, 2)).astype("float32")
    y = (np.hypot(x[:, 0], x[:, 1]) < 1.5).astype("int32")
    return tf.data.Dataset.from_tensor_slices((x, y))


train = dataset(0, 1000).shuffle(1000, seed=1, reshuffle_each_iteration=False)
train = train.batch(32).prefetch(tf.data.AUTOTUNE)
val = dataset(1, 200).batch(32)

model = keras.Sequential(
    [
        keras.Input((2,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(2),
    ]
)
model.compile(
    keras.optimizers.Adam(0.01),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(
    train,
    validation_data=val,
    epochs=10,
    callbacks=[
        keras.callbacks.EarlyStopping(patience=3),
        keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
        keras.callbacks.CSVLogger("log.csv"),
    ],
)
