"""Peers in PyTorch, if installed: with and without compilation, and Lightning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from engine.keras_peers import EPOCHS
from engine.models import Task
from engine.turns import Seconds, Turns


def torch_model(task: Task) -> Any:
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

    class PackedLstm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            from engine.lengths import CLASSES, UNITS, WORDS

            self.embedding = nn.Embedding(WORDS, UNITS, padding_idx=0)
            self.lstm = nn.LSTM(UNITS, UNITS, batch_first=True, bidirectional=True)
            self.out = nn.Linear(2 * UNITS, CLASSES)

        def forward(self, x: Any) -> Any:
            lengths = (x != 0).sum(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(self.embedding(x), lengths, True, enforce_sorted=False)
            return self.out(self.lstm(packed)[1][0].transpose(0, 1).flatten(1))

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(2000, 64)
            block = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True)
            self.blocks = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
            self.out = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.blocks(self.embedding(x)).mean(1))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.positions = nn.Embedding(2000, 192), nn.Embedding(64, 192)
            block = nn.TransformerEncoderLayer(192, 6, 768, 0.0, "gelu", batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(block, 4, nn.LayerNorm(192), enable_nested_tensor=False)
            self.out = nn.Linear(192, 2000)
            self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(64))

        def forward(self, x: Any) -> Any:
            x = self.embedding(x) + self.positions.weight
            return self.out(self.blocks(x, mask=self.mask, is_causal=True)).transpose(1, 2)

    def residual(width: int) -> Any:
        stages, inward = [], width
        for stage in range(4):
            outward = width << stage
            stages += [Residual(inward, outward, 2 if stage else 1), Residual(outward, outward, 1)]
            inward = outward
        return nn.Sequential(
            Nhwc(), nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), *stages,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10),
        )  # fmt: skip

    def photographs() -> Any:
        stages: list[Any] = [Nhwc()]
        for inward, outward in ((3, 16), (16, 32), (32, 64)):
            stages += [nn.Conv2d(inward, outward, 3, padding=1, bias=False), nn.BatchNorm2d(outward), nn.ReLU()]
            stages += [nn.MaxPool2d(2)] if outward < 64 else []
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10))

    made: dict[str, Callable[[], Any]] = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)),
        "table_mlp": lambda: nn.Sequential(
            nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        ),
        "cnn": lambda: nn.Sequential(
            Nhwc(), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
        ),
        "resnet": lambda: residual(16),
        "resnet18": lambda: residual(64),
        "photographs": photographs,
        "bilstm": Lstm,
        "lengths": PackedLstm,
        "transformer": Words,
        "gpt": Gpt,
    }  # fmt: skip
    return made[task.torch]().to(memory_format=torch.channels_last)


def torch_loss(task: Task) -> Any:
    """Return the loss of a task in PyTorch."""
    import torch
    from torch.nn import functional

    if task.torch != "bilstm":
        return lambda output, target: functional.cross_entropy(output, target.long())

    def ctc(output: Any, target: Any) -> Any:
        batch = len(target)
        lengths, steps = torch.full((batch,), 12), torch.full((batch,), 32)
        return functional.ctc_loss(output.log_softmax(-1).transpose(0, 1), target.long(), steps, lengths)

    return ctc


def torch_device() -> str:
    """Return the device, with the same precision of matrix products as in TensorFlow."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(1)
    return "cuda" if torch.cuda.is_available() else "cpu"


def pytorch(task: Task, *, compiled: bool) -> Iterator[Seconds]:
    """Train with the usual PyTorch loop, or with everything compiled and the fused Adam."""
    import torch

    started = time.perf_counter()
    device = torch_device()
    model, loss, batches = torch_model(task).to(device), torch_loss(task), task.torch_batches(device)
    optimizer = torch.optim.Adam(model.parameters(), 0.001, eps=1e-7, fused=compiled or None)
    forward = torch.compile(model) if compiled else model

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=task.precision == "bfloat16"):
            value = loss(forward(x.to(device)), y.to(device))
        value.backward()
        optimizer.step()

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    step(*next(iter(batches)))
    finish()
    yield time.perf_counter() - started
    while True:
        begun = time.perf_counter()
        for x, y in batches:
            step(x, y)
        finish()
        yield time.perf_counter() - begun


def lightning(task: Task) -> Iterator[Seconds]:
    """Train with Lightning's Trainer, with all optional features disabled."""
    import logging

    import lightning as pl
    import torch

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    turns = Turns()
    device = torch_device()
    batches = task.torch_batches(device)

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = torch_model(task), torch_loss(task)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.loss(self.model(batch[0]), batch[1])

        def on_train_batch_end(self, *_: Any) -> None:
            turns.updated()

        def on_train_epoch_end(self) -> None:
            turns.epoch_ended()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.001, eps=1e-7)

    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="auto", devices=1, barebones=True,
        precision="bf16-mixed" if task.precision == "bfloat16" else "32-true",
    )  # fmt: skip
    yield from turns.run(lambda: trainer.fit(Module(), batches))
