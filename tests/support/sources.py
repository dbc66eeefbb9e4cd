"""The kinds of data that a scenario may return, with the same 100 samples, and a scenario for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import attrs
import numpy as np

from aipcore.scenario import RandomProcessor, Scenario, ScenarioParams, Stream

SAMPLES, BATCH = 100, 8

X = np.random.default_rng(0).normal(size=(SAMPLES, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def pairs() -> list[tuple[Any, Any]]:
    """A list of tuples."""
    return list(zip(X, Y, strict=True))


def batches() -> list[tuple[Any, Any]]:
    """A list of batches."""
    return [(X[n : n + BATCH], Y[n : n + BATCH]) for n in range(0, SAMPLES, BATCH)]


def tf_batches() -> Any:
    """A shuffled `tf.data.Dataset` of batches."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(50, seed=3).batch(BATCH)


def tf_samples() -> Any:
    """A shuffled `tf.data.Dataset` of samples."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(50, seed=3)


def tf_generator() -> Any:
    """A `tf.data.Dataset` without a state, of unknown length."""
    import tensorflow as tf

    signature = (tf.TensorSpec((3,)), tf.TensorSpec((1,)))
    return tf.data.Dataset.from_generator(pairs, output_signature=signature).batch(BATCH)


def py_dataset() -> Any:
    """A `PyDataset`."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(batches())

        def __getitem__(self, index: int) -> Any:
            return batches()[index]

    return Batches(workers=2)


def generator() -> Any:
    """A generator, declared as a stream."""
    return Stream(pairs)


def grain_map() -> Any:
    """A `MapDataset` of grain."""
    import grain

    return grain.MapDataset.source(pairs()).shuffle(seed=1)


def grain_iter() -> Any:
    """An `IterDataset` of grain."""
    return grain_map().to_iter_dataset()


def hugging_face() -> Any:
    """A Hugging Face `Dataset` with NumPy as its format."""
    import datasets

    return datasets.Dataset.from_dict({"x": X, "y": Y}).with_format("numpy")


def hugging_face_stream() -> Any:
    """A Hugging Face `IterableDataset`."""
    import datasets

    return datasets.Dataset.from_dict({"x": X, "y": Y}).to_iterable_dataset(num_shards=4)


def hugging_face_buffer() -> Any:
    """A Hugging Face `IterableDataset` with a shuffle buffer, which is not part of its state."""
    return hugging_face_stream().shuffle(seed=1, buffer_size=20)


class Torch:
    """A map-style dataset as in PyTorch."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class TorchLoader:
    """An iterable of batches as PyTorch's `DataLoader`."""

    dataset, batch_size = Torch(), BATCH

    def __len__(self) -> int:
        return len(batches())

    def __iter__(self) -> Iterator[Any]:
        return iter([list(each) for each in batches()])


class Counted:
    """An iterator with a state."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.count == SAMPLES:
            raise StopIteration
        self.count += 1
        return X[self.count - 1], Y[self.count - 1]

    def get_state(self) -> Any:
        return {"count": self.count}

    def set_state(self, state: Any) -> None:
        self.count = state["count"]


class WithState:
    """An iterable whose iterator has a state."""

    def __iter__(self) -> Iterator[Any]:
        return Counted()


KINDS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X, Y),
    "pairs": pairs,
    "map-style dataset": Torch,
    "tf.data batches": tf_batches,
    "tf.data samples": tf_samples,
    "tf.data from a generator": tf_generator,
    "PyDataset": py_dataset,
    "generator": generator,
    "grain MapDataset": grain_map,
    "grain IterDataset": grain_iter,
    "Hugging Face Dataset": hugging_face,
    "Hugging Face IterableDataset": hugging_face_stream,
    "Hugging Face shuffle buffer": hugging_face_buffer,
    "DataLoader": TorchLoader,
    "iterator with a state": WithState,
}

BATCHED = ("tf.data batches", "tf.data from a generator", "PyDataset", "DataLoader")
"""Kinds that have their own batches."""

STREAMS = tuple(name for name in KINDS if name not in (
    "arrays", "pairs", "map-style dataset", "grain MapDataset", "Hugging Face Dataset",
))  # fmt: skip
"""Kinds without samples by index."""

SKIPPED = ("tf.data from a generator", "generator", "Hugging Face shuffle buffer", "DataLoader")
"""Streams that are resumed by reading again."""

JITTERED = ("generator", "grain IterDataset", "arrays")
"""Kinds that are killed with a random processor."""


class Jitter(RandomProcessor):
    """Moves each point to a different place on each visit."""

    def process(self, sample: Any, rng: Any) -> Any:
        return attrs.evolve(sample, inputs=sample.inputs + rng.normal(0, 0.1, 3).astype("float32"))


class Points(Scenario):
    """A line through points of the kind `kind`."""

    params_class = ScenarioParams
    defaults: ClassVar[dict[str, Any]] = {
        "optimizer": "SGD", "learning_rate": "Constant", "learning_rate.lr": 0.01, "trainer.epochs": 3,
    }  # fmt: skip
    kind = "arrays"

    def train_data(self) -> Any:
        return KINDS[self.kind]()

    def val_data(self) -> Any:
        return KINDS[self.kind]()

    def to_sample(self, element: Any) -> Any:
        if not isinstance(element, dict):
            return element
        return tuple(np.asarray(element[name], "float32") for name in "xy")

    def build(self, inputs: Any) -> Any:
        from keras import layers

        return layers.Dense(1)(inputs)

    def losses(self) -> Any:
        return "mse"


class JitteredPoints(Points):
    """The same, with a random processor."""

    def processors(self) -> Any:
        return [Jitter()]


def points(kind: str, *, jitter: bool = False) -> type[Points]:
    """Return the scenario for a kind of data."""
    name = "".join(filter(str.isalnum, kind.title()))
    cls = type(name, (JitteredPoints if jitter else Points,), {"kind": kind, "__module__": __name__})
    setattr(sys.modules[__name__], name, cls)
    return cls
