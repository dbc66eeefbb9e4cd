"""Callbacks that show the internals of a run, read by TensorBoard's own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forks
import keras
import numpy as np
import pytest
from events import events_of

from aipcore.errors import UsageError
from aipcore.scenario.shown_samples import describe_sample
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.tensorboard.events import trim_events

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


def test_weight_histograms(run: Any) -> None:
    """Each weight has a histogram of all its values in every second epoch and in the first and the last."""
    words = ("--callbacks.WeightHistograms.every_n_epochs", "2", "--callbacks.WeightHistograms.include", "kernel")
    trainer = run("--callbacks", "WeightHistograms", *words, "--trainer.epochs", "5")
    trainer.fit()
    found = events_of(trainer.output_dir / "tensorboard")["train"]
    assert {tag for tag in found if "/" in tag} == {"weights/hidden/kernel", "weights/logits/kernel"}
    points = found["weights/hidden/kernel"]
    assert [step for step, _ in points] == [1, 2, 4, 5]
    kernel = trainer.model.get_layer("hidden").kernel.numpy()
    bins = points[-1][1]
    assert bins[:, 2].sum() == kernel.size
    assert (bins[0, 0], bins[-1, 1]) == pytest.approx((kernel.min(), kernel.max()))
    below = bins[len(bins) // 2, 1]
    assert bins[: len(bins) // 2 + 1, 2].sum() == (kernel < below).sum()


def test_no_weight_to_show(run: Any, refused: Any) -> None:
    """An expression without matches is an error that lists the weights."""
    trainer = run("--callbacks", "WeightHistograms", "--callbacks.WeightHistograms.include", "conv")
    with refused(UsageError):
        trainer.fit()


MONITOR = (
    "--callbacks", "LearningRateMonitor", "ReduceOnPlateau", "--callbacks.ReduceOnPlateau.patience", "1",
    "--callbacks.ReduceOnPlateau.min_delta", "9", "--callbacks.learning_rate_monitor.csv", "True",
    "--train.batch_size", "4", "--trainer.accumulate_steps", "5", "--learning_rate", "CosineDecay",
    "--trainer.force_eager", "False",
)  # fmt: skip


def expected_rates(epochs: int) -> list[float]:
    """Return the rates of 24 batches per epoch in groups of 5: a cosine from 0.001, halved after each epoch but one."""
    total = 5 * epochs
    cosine = 0.5 * 0.001 * (1 + np.cos(np.pi * np.arange(total) / total))
    return [float(rate * 0.5 ** max(0, update // 5 - 1)) for update, rate in enumerate(cosine)]


def rows_of(file: Path) -> list[tuple[int, float]]:
    """Return the rows of the CSV file."""
    head, *lines = file.read_text().splitlines()
    assert head == "update,learning_rate"
    return [(int(update), float(rate)) for update, rate in (line.split(",") for line in lines)]


def test_learning_rate_of_each_update(run: Any) -> None:
    """Every update has its rate, by a separate formula, with several batches per call."""
    trainer = run(*MONITOR, "--trainer.epochs", "4")
    trainer.fit()
    assert trainer._chunks.chunk > 1
    found = events_of(trainer.output_dir / "tensorboard")["updates"]["learning_rate"]
    assert [step for step, _ in found] == list(range(1, 21))
    assert [float(value) for _, value in found] == pytest.approx(expected_rates(4), abs=1e-9)
    assert [rate for _, rate in rows_of(trainer.output_dir / "learning_rate.csv")] == pytest.approx(
        expected_rates(4), abs=1e-9
    )


def test_only_some_updates(run: Any) -> None:
    """Every third update is recorded."""
    trainer = run(*MONITOR, "--callbacks.learning_rate_monitor.every_n_updates", "3", "--trainer.epochs", "4")
    trainer.fit()
    rows = rows_of(trainer.output_dir / "learning_rate.csv")
    assert [update for update, _ in rows] == [1, 4, 7, 10, 13, 16, 19]
    assert [rate for _, rate in rows] == pytest.approx(expected_rates(4)[::3], abs=1e-9)


class Waiting(keras.callbacks.Callback):
    """A callback that waits after each chunk for pending saves."""

    accepts_chunks = True

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trainer._run_writer.drain()


def test_learning_rates_of_a_resumed_run(run: Any) -> None:
    """A run that is resumed within an epoch has each update once in both files."""
    words = (*MONITOR, "--trainer.epochs", "4", "--checkpoint.every_steps", "7", "--checkpoint.keep", "99")
    first = run(*words)
    first.callbacks["wait"] = Waiting(first)
    first.fit()
    folder = first.output_dir
    # Batches 49 to 71 are in the third epoch.
    within = [path for path in sorted((folder / "checkpoint").iterdir()) if 48 < int(path.name[5:]) < 72]
    second = run(*words, checkpoint=within[-1])
    updates = int(second.engine.optimizer.iterations.numpy())
    assert 10 < updates < 15
    trim_events(folder / "tensorboard", second.state.epoch, {"updates": updates})
    second.fit()
    found = events_of(folder / "tensorboard")
    assert [step for step, _ in found["updates"]["learning_rate"]] == list(range(1, 21))
    assert [step for step, _ in found["train"]["loss"]] == [1, 2, 3, 4]
    assert [update for update, _ in rows_of(folder / "learning_rate.csv")] == list(range(1, 21))


def softmax_regression(base: Any) -> Any:
    """Return the scenario with a single layer, whose gradient has a closed form."""

    class Regression(base):  # type: ignore[misc]
        def build(self, inputs: Any) -> Any:
            from keras import layers

            return layers.Dense(3)(layers.Dropout(0.5)(inputs))

    return Regression


@pytest.mark.parametrize("eager", ["True", "False"])
def test_gradient_norm(run: Any, points: Any, eager: str) -> None:
    """Mean and maximum over batches that together are the data equal the formula of softmax regression."""
    words = ("--callbacks", "GradientNorm", "--callbacks.GradientNorm.batches", "3", "--train.batch_size", "32")
    trainer = run(*words, "--trainer.force_eager", eager, cls=softmax_regression(points))
    trainer.fit()
    found = events_of(trainer.output_dir / "tensorboard")["train"]
    inputs, labels = trainer.scenario.train_data()
    kernel, bias = (weight.astype(np.float64) for weight in trainer.model.get_weights()[:2])
    norms = []
    for first in range(3):
        x, y = inputs[first::3].astype(np.float64), labels[first::3]
        powers = np.exp(x @ kernel + bias)
        error = (powers / powers.sum(axis=1, keepdims=True) - np.eye(3)[y]) / len(x)
        norms.append(np.sqrt(((x.T @ error) ** 2).sum() + (error.sum(axis=0) ** 2).sum()))
    assert [step for step, _ in found["gradient_norm/mean"]] == [1, 2]
    assert float(found["gradient_norm/mean"][-1][1]) == pytest.approx(np.mean(norms), rel=1e-5)
    assert float(found["gradient_norm/max"][-1][1]) == pytest.approx(np.max(norms), rel=1e-5)


def test_observers_together_change_nothing(run: Any) -> None:
    """A compiled run with all observers is bit-identical to one without them, including its history."""
    bits = []
    for number, names in enumerate([(), ("GradientNorm", "LearningRateMonitor", "WeightHistograms")]):
        chosen = ("--callbacks", *names) if names else ()
        trainer = run(*chosen, "--trainer.force_eager", "False", "--trainer.calc_ema", "0.9", output=f"run-{number}")
        history = trainer.fit().history
        bits.append(({name: array.tobytes() for name, array in trainer.state.variables.read().items()}, history))
    assert bits[0] == bits[1]


def pictures(base: Any) -> Any:
    """Return the scenario with points as images, width first, and two inputs."""

    class Pictures(base):  # type: ignore[misc]
        def _named(self, data: Any) -> Any:
            points, labels = data
            images = np.linspace(0, 1, 4, dtype=np.float32)[None, :, None] * np.ones((len(points), 4, 2), np.float32)
            return {"points": points, "image": images}, labels

        def train_data(self) -> Any:
            return self._named(super().train_data())

        def val_data(self) -> Any:
            return self._named(super().val_data())

        def build(self, inputs: Any) -> Any:
            from keras import layers

            return super().build(layers.Concatenate()([inputs["points"], layers.Flatten()(inputs["image"])]))

    return Pictures


def test_sample_images(run: Any, points: Any, tmp_path: Path) -> None:
    """The picture has the images of evenly spaced samples, and the share of right outputs is that of the model."""
    from PIL import Image

    words = ("--callbacks.SampleImages.count", "4", "--callbacks.SampleImages.transpose", "True")
    trainer = run("--callbacks", "SampleImages", *words, "--trainer.epochs", "3", cls=pictures(points))
    trainer.fit()
    found = events_of(trainer.output_dir / "tensorboard")["validation"]
    assert [step for step, _ in found["samples"]] == [1, 3]
    inputs, labels = trainer.scenario.val_data()
    chosen = [0, 10, 21, 31]
    outputs = trainer.model.predict({name: column[chosen] for name, column in inputs.items()}, verbose=0)
    share = (outputs.argmax(axis=1) == labels[chosen]).mean()
    assert float(found["samples/right"][-1][1]) == pytest.approx(share)
    width, height, png = found["samples"][-1][1]
    (tmp_path / "samples.png").write_bytes(png)
    pixels = np.asarray(Image.open(tmp_path / "samples.png"))
    assert pixels.shape == (int(height), int(width), 3)
    # The first image: 4 wide and 2 high, from black to white, each pixel a square of 24.
    np.testing.assert_array_equal(pixels[6 + 12, 6 + 12 : 6 + 96 : 24, 0], [0, 85, 170, 255])
    # Below it is a line in the colour of right or wrong.
    text = pixels[6 + 48 + 2 + 16 : 6 + 48 + 2 + 32, 6:102].reshape(-1, 3).astype(int)
    right = outputs[0].argmax() == labels[0]
    darkest = text[text.sum(axis=1).argmin()]
    assert (darkest[1] > darkest[0]) == right


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--callbacks.SampleImages.input", "page"),
    ],
)
def test_nothing_to_picture(run: Any, words: Any, refused: Any) -> None:
    """Data without images is a clear error before the first batch."""
    with refused(UsageError):
        run("--callbacks", "SampleImages", *words).fit()


@pytest.mark.parametrize(
    ("targets", "outputs", "texts"),
    [
        ({"": np.int32(2)}, {"": np.array([0.1, 0.2, 0.9])}, ("2", "2")),
        ({"a": np.int32(1)}, {"a": np.array([2.0, 1.0]), "sure": 0.3}, ("1", "0")),
        ({"x": np.float32(1.5)}, {"x": np.array([1.25])}, ("1.5", "1.25")),
        ({"t": np.arange(20)}, {"text": "two words"}, ("0 1 2 3 4 5 6 7 ...", "two words")),
        ({"a": np.int32(1), "b": np.float32(2)}, {"a": np.array([0.0, 1.0]), "b": 2.5}, ("a 1, b 2", "a 1, b 2.5")),
    ],
)
def test_described(targets: Any, outputs: Any, texts: tuple[str, str]) -> None:
    """Classes, numbers and text are described in one line each."""
    assert describe_sample(targets, outputs) == texts


@pytest.mark.slow
def test_resumed_by_the_command(tmp_path: Path) -> None:
    """A run with all observers, resumed from its first epoch, has every point once."""
    words = [
        "train", "tutorial", "--trainer.epochs", "3", "--trainer.output_dir", "out", "--checkpoint.keep", "9",
        "--callbacks", "GradientNorm", "LearningRateMonitor", "SampleImages", "WeightHistograms",
        "--callbacks.SampleImages.every_n_epochs", "1",
    ]  # fmt: skip
    forks.run([*AIP, *words], cwd=tmp_path).check_returncode()
    before = events_of(tmp_path / "out" / "tensorboard")
    forks.run([*AIP, "resume", "out/checkpoint/step-0000000091"], cwd=tmp_path).check_returncode()
    after = events_of(tmp_path / "out" / "tensorboard")
    steps = {part: {tag: [step for step, _ in points] for tag, points in tags.items()} for part, tags in after.items()}
    assert steps == {
        part: {tag: [step for step, _ in points] for tag, points in tags.items()} for part, tags in before.items()
    }
    assert steps["train"]["gradient_norm/max"] == steps["validation"]["samples"] == [1, 2, 3]
    assert steps["updates"]["learning_rate"] == list(range(1, 274))
    assert newest_checkpoint(tmp_path / "out" / "checkpoint").name == "step-0000000273"


@pytest.mark.slow
def test_on_two_devices(tmp_path: Path) -> None:
    """On two halves of the CPU, gradients, samples and updates equal those of one device."""
    found = []
    for name, words in (("one", []), ("two", ["--device.strategy", "mirror", "--device.cpus", "2"])):
        command = [
            *AIP, "train", "tutorial", "--trainer.epochs", "2", "--trainer.output_dir", name, "--trainer.random_seed",
            "3", "--callbacks", "GradientNorm", "LearningRateMonitor", "SampleImages", "WeightHistograms", *words,
        ]  # fmt: skip
        forks.run(command, cwd=tmp_path).check_returncode()
        found.append(events_of(tmp_path / name / "tensorboard"))
    one, two = found
    assert {part: set(tags) for part, tags in one.items()} == {part: set(tags) for part, tags in two.items()}
    for part, tag in (("train", "gradient_norm/max"), ("validation", "samples/right"), ("updates", "learning_rate")):
        assert [step for step, _ in two[part][tag]] == [step for step, _ in one[part][tag]]
        ours, theirs = ([float(value) for _, value in each[part][tag]] for each in (one, two))
        assert theirs == pytest.approx(ours, rel=1e-4)


def test_hparams_tab(run: Any) -> None:
    """The files have the parameters once, with the best value and the status, also after resuming."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    words = ("--callbacks", "HParams", "TerminateOnNaN", "--callbacks.HParams.include", "epochs|optimizer|callbacks$")
    first = run(*words, "--trainer.epochs", "1")
    first.fit()
    trainer = run(*words, "--trainer.epochs", "2", checkpoint=newest_checkpoint(first.output_dir / "checkpoint"))
    best = trainer.fit().best
    folder = trainer.output_dir / "tensorboard"
    assert len(list(folder.glob("events.*"))) == 2
    found = EventAccumulator(str(folder)).Reload()
    contents = {tag: each.plugin_data.content for tag, each in found.summary_metadata.items()}
    begun = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert begun.group_name == "out"
    assert begun.hparams["trainer.epochs"].number_value == 2
    assert begun.hparams["trainer.optimizer.name"].string_value == "Adam"
    assert begun.hparams["trainer.callbacks"].string_value == "HParams, TerminateOnNaN"
    assert "trainer.learning_rate.lr" not in begun.hparams
    ended = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
    assert ended.status == 1
    ((step, value),) = events_of(folder)["tensorboard"]["best/val_accuracy"]
    assert float(value) == pytest.approx(best)
    assert step == trainer.state.monitor.best_epoch


def test_system_metrics(run: Any, monkeypatch: Any) -> None:
    """CPU, memory and GPUs have a point for each epoch, but are not in the history."""
    sample = SimpleNamespace(timeStamp=5, sampleValue=SimpleNamespace(uiVal=40))
    other = SimpleNamespace(timeStamp=7, sampleValue=SimpleNamespace(uiVal=60))
    asked: list[int] = []

    def samples(gpu: str, kind: int, since: int) -> Any:
        asked.append(since)
        return kind, [sample, other]

    nvml = SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda number: "gpu",
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=2**31), nvmlDeviceGetSamples=samples,
        NVML_GPU_UTILIZATION_SAMPLES=1, NVMLError=RuntimeError, __spec__=object(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    trainer = run("--callbacks", "SystemMetrics", "--trainer.epochs", "2")
    history = trainer.fit().history
    found = events_of(trainer.output_dir / "tensorboard")["system"]
    names = {"cpu_percent", "memory_percent", "process_memory_gib", "gpu_0_percent", "gpu_0_memory_gib"}
    assert found.keys() == names
    assert all([step for step, _ in points] == [1, 2] for points in found.values())
    assert [float(value) for _, value in found["gpu_0_percent"]] == [50, 50]
    assert [float(value) for _, value in found["gpu_0_memory_gib"]] == [2, 2]
    assert asked == [0, 7]
    assert all(0 <= float(value) <= 100 for _, value in found["cpu_percent"])
    assert not any("cpu" in name for name in history[0])
