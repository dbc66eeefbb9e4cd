"""The preprocessing of the columns and the network: Keras layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from aip_plugins.scenarios.tabular_classification.params import MLP, GraphParams, Linear, input_name, named_kind


class Number(keras.layers.Layer):  # type: ignore[misc]
    """A normalized number and a flag for a missing one, float32 [batch, 2] of [batch, 1].

    Mean and deviation are those of the known values. If these are all equal, the deviation is 1. A missing value (NaN)
    becomes the mean, 0, with the flag 1. The flag is always 0 if no value was missing in training, because its weights
    are not trained then.
    """

    def build(self, input_shape: Any) -> None:
        """Create the state."""
        del input_shape
        self.mean, self.deviation, self.flag = (
            self.add_weight(name=name, shape=(), initializer="zeros", trainable=False)
            for name in ("mean", "deviation", "flag")
        )

    def adapt(self, data: Any) -> None:
        """Compute mean and deviation of the known values, in float64."""
        values = np.concatenate([np.asarray(batch, np.float64) for batch in data])
        known = values[~np.isnan(values)]
        self.build(values.shape)
        self.mean.assign(known.mean() if len(known) else 0.0)
        self.deviation.assign(known.std() if len(known) and np.ptp(known) else 1.0)
        self.flag.assign(float(len(known) < len(values)))

    def call(self, inputs: Any) -> Any:
        """Return the normalized numbers and flags."""
        missing = tf.math.is_nan(inputs)
        mean, deviation, flag = map(tf.convert_to_tensor, (self.mean, self.deviation, self.flag))
        numbers = tf.where(missing, tf.zeros_like(inputs), (inputs - mean) / deviation)
        return tf.concat([numbers, tf.cast(missing, numbers.dtype) * flag], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return [batch, 2]."""
        return (*input_shape[:-1], 2)


class Category(keras.layers.Layer):  # type: ignore[misc]
    """A one-hot encoding, float32 [batch, categories] of strings [batch, 1].

    The categories are those of the training rows, sorted, with "" if it was missing in some of them. Any other value
    becomes zeros. Keras' `StringLookup` has a position for these values, whose weights are not trained, and a lookup
    table, which ONNX cannot express.
    """

    def adapt(self, data: Any) -> None:
        """Find the categories."""
        self.categories = tuple(sorted({value.decode() for batch in data for value in np.unique(batch)}))

    def call(self, inputs: Any) -> Any:
        """Return the encoding."""
        return tf.cast(tf.equal(inputs, tf.constant(self.categories)), self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shape and the type of the encoding."""
        return keras.KerasTensor((*inputs.shape[:-1], len(self.categories)), dtype=self.compute_dtype)


class Boolean(Category):
    """A one-hot encoding of the strings `true`, `false` and "", for which `True` and `TRUE` are `true`."""

    def call(self, inputs: Any) -> Any:
        """Return the encoding."""
        spellings = (self.categories, *(tuple(map(change, self.categories)) for change in (str.title, str.upper)))
        found = [tf.equal(inputs, tf.constant(each)) for each in spellings]
        return tf.cast(found[0] | found[1] | found[2], self.compute_dtype)


def feature_space(columns: Sequence[str]) -> keras.utils.FeatureSpace:
    """Return the encoding of columns, not adapted, as one vector."""
    space = keras.utils.FeatureSpace
    features = {
        input_name(name): space.feature("float32", Number(), "float")
        if kind == "number"
        else space.feature("string", Boolean() if kind == "boolean" else Category(), "float")
        for name, kind in map(named_kind, columns)
    }
    return space(features, output_mode="concat")


def logits(features: Any, params: GraphParams, classes: int) -> Any:
    """Return logits, float32 [batch, classes], of encoded columns [batch, width]."""
    match params:
        case Linear():
            hidden = features
        case MLP():
            hidden = features
            for number, units in enumerate(params.units, start=1):
                hidden = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(hidden)
                if params.dropout:
                    hidden = keras.layers.Dropout(params.dropout, name=f"dropout_{number}")(hidden)
        case _:
            raise TypeError(f"{type(params).__name__} is not a graph of the classification of tables.")
    return keras.layers.Dense(classes, name="classes", dtype="float32")(hidden)


class ClassName(keras.layers.Layer):  # type: ignore[misc]
    """The name of the most probable class, a string [batch] of logits [batch, classes]."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(name="class_name", dtype="float32")
        self.classes = list(classes)

    def call(self, inputs: Any) -> Any:
        """Return the names."""
        return tf.gather(tf.constant(self.classes), tf.argmax(inputs, axis=-1))

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shape and the type of the names."""
        return keras.KerasTensor(inputs.shape[:-1], dtype="string")
