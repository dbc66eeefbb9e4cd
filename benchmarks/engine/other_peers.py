"""Peers in other frameworks, if installed: PyTorch with and without compilation, Lightning, JAX."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from engine.models import TASKS, Task


def torch_model(name: str) -> Any:
    """Return the network of a task in PyTorch, with inputs in Keras' layout."""
    import torch
    from torch import nn

    class Nhwc(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 3, 1, 2)

    class Residual(nn.Module):
        def __init__(self, inward: int, outward: int, stride: int) -> None:
            super().__init__()
            self.change = nn.Sequential(
                nn.Conv2d(inward, outward, 3, stride, 1, bias=False), nn.BatchNorm2d(outward), nn.ReLU(),
                nn.Conv2d(outward, outward, 3, 1, 1, bias=False), nn.BatchNorm2d(outward),
            )  # fmt: skip
            straight = stride == 1 and inward == outward
            self.keep = nn.Identity() if straight else nn.Sequential(
                nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward)
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return torch.relu(self.keep(x) + self.change(x))

    class Lstm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(48, 64, batch_first=True, bidirectional=True)
            self.out = nn.Linear(128, 40)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(x)[0])

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(2000, 64)
            block = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True)
            self.blocks = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
            self.out = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.blocks(self.embedding(x)).mean(1))

    if name.startswith("MLP"):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    if name.startswith("CNN"):
        return nn.Sequential(
            Nhwc(), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip
    if name.startswith("ResNet"):
        stages, inward = [], 16
        for stage, outward in enumerate((16, 32, 64, 128)):
            stages += [Residual(inward, outward, 2 if stage else 1), Residual(outward, outward, 1)]
            inward = outward
        return nn.Sequential(
            Nhwc(), nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip
    return Lstm() if name.startswith("BiLSTM") else Words()


def torch_loss(name: str) -> Any:
    """Return the loss of a task in PyTorch."""
    import torch
    from torch.nn import functional

    if not name.startswith("BiLSTM"):
        return lambda output, target: functional.cross_entropy(output, target.long())

    def ctc(output: Any, target: Any) -> Any:
        batch = len(target)
        lengths, steps = torch.full((batch,), 12), torch.full((batch,), 32)
        return functional.ctc_loss(output.log_softmax(-1).transpose(0, 1), target.long(), steps, lengths)

    return ctc


def pytorch(name: str, *, compiled: bool) -> Iterator[float]:
    """Train with the usual PyTorch loop."""
    import torch

    started = time.perf_counter()
    task = TASKS[name]
    torch.manual_seed(1)
    model, loss = torch_model(name), torch_loss(name)
    optimizer = torch.optim.Adam(model.parameters(), 0.001, eps=1e-7)
    inputs, targets = task.data(task.samples)
    x, y = torch.from_numpy(next(iter(inputs.values()))), torch.from_numpy(targets)
    forward = torch.compile(model) if compiled else model

    def step(first: int) -> None:
        part = slice(first, first + task.batch_size)
        optimizer.zero_grad()
        loss(forward(x[part]), y[part]).backward()
        optimizer.step()

    step(0)
    yield time.perf_counter() - started
    while True:
        begun = time.perf_counter()
        for first in range(0, task.samples, task.batch_size):
            step(first)
        yield time.perf_counter() - begun


def lightning(name: str) -> Iterator[float]:
    """Train with Lightning's Trainer, with all optional features disabled."""
    import logging

    import lightning as pl
    import torch

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    started = time.perf_counter()
    task: Task = TASKS[name]
    inputs, targets = task.data(task.samples)
    x, y = torch.from_numpy(next(iter(inputs.values()))), torch.from_numpy(targets)
    first: list[float] = []

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = torch_model(name), torch_loss(name)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.loss(self.model(batch[0]), batch[1])

        def on_train_batch_end(self, *_: Any) -> None:
            if not first:
                first.append(time.perf_counter() - started)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.001, eps=1e-7)

    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=task.batch_size)

    def epoch() -> None:
        pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, barebones=True,
        ).fit(module, loader)  # fmt: skip

    epoch()
    yield first[0]
    while True:
        begun = time.perf_counter()
        epoch()
        yield time.perf_counter() - begun


def jax_scan(name: str) -> Iterator[float]:
    """Train with `lax.scan` over the epoch and optax's Adam; MLP only."""
    import jax
    import optax
    from jax import numpy as jnp

    if not name.startswith("MLP"):
        raise ImportError("implemented for the MLP only")
    started = time.perf_counter()
    task = TASKS[name]
    inputs, targets = task.data(task.samples)
    steps = task.samples // task.batch_size
    x = jnp.asarray(inputs["image"].reshape(steps, task.batch_size, 784))
    y = jnp.asarray(targets.reshape(steps, task.batch_size))
    keys = jax.random.split(jax.random.key(1), 2)
    weights = {
        "a": jax.random.normal(keys[0], (784, 128)) * 0.05, "b": jnp.zeros(128),
        "c": jax.random.normal(keys[1], (128, 10)) * 0.1, "d": jnp.zeros(10),
    }  # fmt: skip
    adam = optax.adam(0.001, eps=1e-7)
    state = adam.init(weights)

    def loss(w: Any, images: Any, labels: Any) -> Any:
        logits = jax.nn.relu(images @ w["a"] + w["b"]) @ w["c"] + w["d"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry: Any, batch: Any) -> Any:
        w, s = carry
        value, gradient = jax.value_and_grad(loss)(w, *batch)
        change, s = adam.update(gradient, s, w)
        return (optax.apply_updates(w, change), s), value

    epoch = jax.jit(lambda carry, a, b: jax.lax.scan(step, carry, (a, b)))
    carry, values = epoch((weights, state), x[:1], y[:1])
    values.block_until_ready()
    yield time.perf_counter() - started
    while True:
        begun = time.perf_counter()
        carry, values = epoch(carry, x, y)
        values.block_until_ready()
        yield time.perf_counter() - begun
