"""The rows of the training benchmark: data, network in Keras, loss, batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import numpy as np

FIT = ("Model.fit", "Model.fit, many steps a call", "Model.fit, XLA", "Model.fit, XLA, many steps a call")
TORCH = ("PyTorch", "PyTorch, compiled", "Lightning")
JAX = ("JAX scan",)
BY_HAND = ("by hand, graph", "by hand, XLA")
GROUPS = (("aip",), FIT, TORCH, JAX, BY_HAND)
"""Peers by framework. The peers of a group share a process."""


@attrs.frozen(kw_only=True, eq=False)
class Task:
    """A training task on arrays.

    Attributes:
        title: the name of the row.
        batch_size: samples per batch.
        samples: samples per epoch.
        data: function from the number of samples to inputs, arrays by name, and targets.
        build: function from symbolic inputs by name to the output.
        loss: function from target and output to one value per sample, in Keras operations.
        shuffle: if True, each epoch has another order.
        precision: format of activations: "float32" or "bfloat16".
        torch: the name of the network in PyTorch.
        without: peers that are left out.
    """

    title: str
    batch_size: int
    samples: int
    data: Callable[[int], tuple[dict[str, Any], Any]]
    build: Callable[[dict[str, Any]], Any]
    loss: Callable[[Any, Any], Any]
    torch: str
    shuffle: bool = False
    precision: str = "float32"
    without: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-self.samples // self.batch_size)

    def model(self) -> Any:
        """Return the Keras model, the same for every peer."""
        import keras

        keras.utils.set_random_seed(1)
        if self.precision != "float32":
            keras.config.set_dtype_policy(f"mixed_{self.precision}")
        symbolic = self.symbolic()
        return keras.Model(symbolic, self.build(symbolic))

    def symbolic(self) -> dict[str, Any]:
        """Return the symbolic inputs."""
        import keras

        inputs, _ = self.data(1)
        return {name: keras.Input(x.shape[1:], dtype=x.dtype.name, name=name) for name, x in inputs.items()}

    def scenario(self) -> tuple[Any, dict[str, Any]]:
        """Return the scenario of aip and its parameters."""
        from aipcore.scenario import Scenario

        task = self

        class Made(Scenario):
            """The task as a scenario."""

            def train_data(self) -> Any:
                return task.data(task.samples)

            def build(self, inputs: Any) -> Any:
                return task.build(inputs)

            def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
                return {"loss": task.loss(targets[""], outputs[""])}

        return Made, {}

    def fit_arguments(self) -> dict[str, Any]:
        """Return the data as arguments of `Model.fit`."""
        inputs, targets = self.data(self.samples)
        return {"x": inputs, "y": targets, "batch_size": self.batch_size, "shuffle": self.shuffle}

    def torch_batches(self, device: str) -> Iterable[Any]:
        """Return the data for PyTorch: an iterable of batches of inputs and targets for each epoch."""
        inputs, targets = self.data(self.samples)
        return Slices([next(iter(inputs.values())), targets], self.batch_size, device, shuffle=self.shuffle)


class Slices:
    """Batches of tensors that are on the device."""

    def __init__(self, arrays: list[Any], size: int, device: str, *, shuffle: bool) -> None:
        import torch

        self._arrays = [torch.from_numpy(array).to(device) for array in arrays]
        self._size, self._shuffle = size, shuffle

    def __len__(self) -> int:
        return len(range(0, len(self._arrays[0]), self._size))

    def __iter__(self) -> Any:
        import torch

        count, device = len(self._arrays[0]), self._arrays[0].device
        order = torch.randperm(count, device=device) if self._shuffle else None
        for first in range(0, count, self._size):
            part = slice(first, first + self._size)
            yield tuple(array[part if order is None else order[part]] for array in self._arrays)


def cross_entropy(target: Any, output: Any) -> Any:
    """Return the cross-entropy of class indices and logits."""
    import keras

    return keras.ops.sparse_categorical_crossentropy(target, output, from_logits=True)


def ctc(target: Any, output: Any) -> Any:
    """Return the CTC loss of texts of 12 characters and logits of 32 steps."""
    from keras import ops

    batch = ops.shape(target)[0]
    lengths, steps = ops.full((batch,), 12, "int32"), ops.full((batch,), 32, "int32")
    return ops.ctc_loss(target, output, lengths, steps, mask_index=0)


def images(size: int, channels: int) -> Callable[[int], tuple[dict[str, Any], Any]]:
    """Return a function that makes noisy images of ten classes."""

    def make(samples: int) -> tuple[dict[str, Any], Any]:
        random = np.random.default_rng(0)
        labels = random.integers(0, 10, samples).astype(np.int32)
        means = random.random((10, size, size, channels), dtype=np.float32)
        return {
            "image": means[labels] + random.normal(0, 1, (samples, size, size, channels)).astype(np.float32)
        }, labels

    return make


def lines(samples: int) -> tuple[dict[str, Any], Any]:
    """Return features of 32 steps and texts of 12 characters."""
    random = np.random.default_rng(0)
    texts = random.integers(1, 40, (samples, 12)).astype(np.int32)
    return {"line": random.normal(size=(samples, 32, 48)).astype(np.float32)}, texts


def texts(samples: int) -> tuple[dict[str, Any], Any]:
    """Return texts of 64 words from a vocabulary of 2,000, in ten classes."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, samples).astype(np.int32)
    return {"words": (random.integers(0, 200, (samples, 64)) + 180 * labels[:, None]).astype(np.int32)}, labels


def following(samples: int) -> tuple[dict[str, Any], Any]:
    """Return texts of 64 words from a vocabulary of 2,000, and the word after each."""
    random = np.random.default_rng(0)
    words = np.cumsum(random.integers(1, 4, (samples, 65)), axis=1) + random.integers(0, 1800, (samples, 1))
    words = words.astype(np.int32)
    return {"words": words[:, :-1]}, np.ascontiguousarray(words[:, 1:])


def table(samples: int) -> tuple[dict[str, Any], Any]:
    """Return rows of 20 numbers in two classes."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(samples, 20)).astype(np.float32)
    return {"row": rows}, (rows[:, :10].sum(1) * rows[:, 10] > 0).astype(np.int32)


def mlp(inputs: dict[str, Any]) -> Any:
    """Build Dense 128, Dense 10."""
    from keras import layers

    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(inputs["image"])))


def table_mlp(inputs: dict[str, Any]) -> Any:
    """Build two layers of 64 units, Dense 2."""
    from keras import layers

    hidden = layers.Dense(64, activation="relu")(layers.Dense(64, activation="relu")(inputs["row"]))
    return layers.Dense(2)(hidden)


def cnn(inputs: dict[str, Any]) -> Any:
    """Build two convolutions with pooling, Dense 128, Dense 10."""
    from keras import layers

    x = inputs["image"]
    for filters in (32, 64):
        x = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))


def resnet(width: int) -> Callable[[dict[str, Any]], Any]:
    """Return a function that builds the stages of ResNet-18, the first one with `width` filters (64 in ResNet-18)."""

    def build(inputs: dict[str, Any]) -> Any:
        from keras import layers

        def conv(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
            x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
            return layers.BatchNormalization()(x)

        x = layers.ReLU()(conv(inputs["image"], width, 3, 2))
        for stage in range(4):
            filters = width << stage
            for block in range(2):
                strides = 2 if stage and not block else 1
                change = conv(layers.ReLU()(conv(x, filters, strides=strides)), filters)
                if strides > 1:
                    x = conv(x, filters, 1, strides)
                x = layers.ReLU()(layers.Add()([x, change]))
        return layers.Dense(10, dtype="float32")(layers.GlobalAveragePooling2D()(x))

    return build


def bilstm(inputs: dict[str, Any]) -> Any:
    """Build a bidirectional LSTM with 64 units and 40 classes per step."""
    from keras import layers

    return layers.Dense(40)(layers.Bidirectional(layers.LSTM(64, return_sequences=True))(inputs["line"]))


def transformer(inputs: dict[str, Any]) -> Any:
    """Build four blocks of attention and two dense layers, 64 wide, with 4 heads."""
    from keras import layers

    x = layers.Embedding(2000, 64)(inputs["words"])
    for _ in range(4):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(64)(layers.Dense(128, activation="relu")(x))]))
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(x))


def gpt(inputs: dict[str, Any]) -> Any:
    """Build a GPT: four blocks of causal attention and two dense layers, 192 wide, with 6 heads."""
    from keras import layers, ops

    words = inputs["words"]
    positions = ops.cumsum(ops.ones_like(words), axis=1) - 1
    x = layers.Add()([layers.Embedding(2000, 192)(words), layers.Embedding(64, 192)(positions)])
    for _ in range(4):
        normal = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(6, 32)(normal, normal, use_causal_mask=True)])
        hidden = layers.Dense(768, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(192)(hidden)])
    return layers.Dense(2000, dtype="float32")(layers.LayerNormalization()(x))


def all_tasks() -> dict[str, Task]:
    """Return the tasks by the name of their row."""
    from engine.lengths import Lengths
    from engine.photographs import Photographs

    few = (*FIT[2:], *JAX)
    resnets = {"samples": 320, "batch_size": 32, "data": images(64, 3), "loss": cross_entropy, "without": few}
    gpts = {"samples": 160, "batch_size": 16, "data": following, "build": gpt, "loss": cross_entropy, "torch": "gpt"}
    return {
        "mlp": Task(
            title="MLP, images 28x28", batch_size=16, samples=19_200, data=images(28, 1), build=mlp,
            loss=cross_entropy, torch="mlp",
        ),
        "table": Task(
            title="MLP, table of 1,000,000 rows", batch_size=1_000, samples=1_000_000, data=table, build=table_mlp,
            loss=cross_entropy, torch="table_mlp", shuffle=True,
        ),
        "cnn": Task(
            title="CNN, images 28x28", batch_size=32, samples=3_200, data=images(28, 1), build=cnn,
            loss=cross_entropy, torch="cnn", without=few,
        ),
        "photos": Photographs(title="CNN, JPEG files 96x96, augmented", without=(*few, *BY_HAND)),
        "resnet": Task(
            title="ResNet-18, a quarter of its filters, images 64x64", build=resnet(16), torch="resnet", **resnets
        ),
        "resnet18": Task(
            title="ResNet-18, images 64x64", build=resnet(64), torch="resnet18", **{**resnets, "samples": 96}
        ),
        "resnet-bfloat16": Task(
            title="the same in bfloat16", build=resnet(16), torch="resnet", precision="bfloat16", **resnets
        ),
        "bilstm": Task(
            title="BiLSTM and CTC, lines of 32 steps", batch_size=16, samples=800, data=lines, build=bilstm, loss=ctc,
            torch="bilstm",
        ),
        "lengths": Lengths(title="BiLSTM, texts of 8 to 160 words", without=(*few, *BY_HAND)),
        "transformer": Task(
            title="Transformer, texts of 64 words", batch_size=32, samples=640, data=texts, build=transformer,
            loss=cross_entropy, torch="transformer",
        ),
        "gpt": Task(title="GPT, 4 layers, 192 wide, texts of 64 words", **gpts),
        "gpt-bfloat16": Task(title="the same in bfloat16", precision="bfloat16", **gpts),
    }  # fmt: skip
