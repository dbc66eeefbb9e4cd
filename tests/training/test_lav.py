"""LAV during training: its epochs, its data and its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.errors import ParamsError, ScenarioError
from aipcore.scenario import Evaluator
from aipcore.training.reporter import Reporter


class CountingEvaluator(Evaluator):
    """An evaluator that counts samples and correct outputs."""

    def __init__(self) -> None:
        self.samples = 0
        self.right = 0

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        assert meta is None
        assert isinstance(outputs[""], np.ndarray)
        self.samples += len(targets[""])
        self.right += int((outputs[""].argmax(-1) == targets[""]).sum())

    def result(self) -> dict[str, float]:
        return {"samples": self.samples, "share": self.right / self.samples}


def evaluated(base: Any) -> Any:
    """Return a scenario with an evaluator."""

    class Evaluated(base):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return CountingEvaluator()

    return Evaluated


def with_lists(base: Any) -> Any:
    """Return a scenario with two LAV lists."""

    class Listed(evaluated(base)):  # type: ignore[misc]
        def lav_data(self) -> Any:
            x, y = self.val_data()
            return {"easy": (x[:10], y[:10]), "easy_too": (x[10:40], y[10:40])}

    return Listed


EAGER = ("--trainer.force_eager", "True", "--trainer.samples_per_epoch", "32")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("--trainer.lav_every_n=1",), [1, 2, 3, 4, 5, 6, 7]),
        (("--trainer.lav_every_n", "3"), [1, 3, 6, 7]),
        (("--trainer.lav_every_n", "2", "--trainer.lav_min_epoch", "4"), [4, 6, 7]),
        (("--trainer.lav_every_n", "5", "--trainer.lav_min_epoch", "7"), [7]),
        (("--trainer.lav_every_n", "50"), [1, 7]),
    ],
)
def test_when_it_runs(make_trainer: Any, blobs_class: Any, words: tuple[str, ...], expected: list[int]) -> None:
    """LAV runs every n epochs, in the first and in the last one, and never before the first LAV epoch."""
    history = make_trainer(evaluated(blobs_class), "--trainer.epochs", "7", *EAGER, *words).fit().history
    assert [epoch for epoch, logs in enumerate(history, start=1) if "lav_share" in logs] == expected


def test_an_epoch_after_the_last_is_refused(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """A first LAV epoch after the last epoch is refused, unless LAV is off."""
    words = ("--trainer.epochs", "7", "--trainer.lav_min_epoch", "8")
    make_trainer(blobs_class, *words).data.close()
    with refused(ParamsError):
        make_trainer(blobs_class, *words, "--trainer.lav_every_n", "1")


def test_evaluator_sees_every_sample_of_the_prediction_graph(make_trainer: Any, noisy_class: Any) -> None:
    """The evaluator receives all 64 validation samples in batches of 20, without dropout: the share is the accuracy."""
    trainer = make_trainer(evaluated(noisy_class), "--trainer.lav_every_n", "1", "--lav.batch_size", "20")
    for logs in trainer.fit().history:
        assert logs["lav_samples"] == 64
        assert logs["lav_share"] == pytest.approx(logs["lav_accuracy"])
        assert logs["lav_accuracy"] == pytest.approx(logs["val_accuracy"])
        assert logs["lav_loss"] == pytest.approx(logs["val_loss"], rel=1e-5)


def test_several_lists(make_trainer: Any, blobs_class: Any) -> None:
    """Each list has separate results and separate curves in TensorBoard."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    trainer = make_trainer(with_lists(blobs_class), "--trainer.lav_every_n", "1", output="out", exports=False)
    logs = trainer.fit().history[-1]
    assert (logs["lav_easy_samples"], logs["lav_easy_too_samples"]) == (10, 30)
    events = EventMultiplexer().AddRunsFromDirectory(str(trainer.output_dir / "tensorboard"))
    events.Reload()
    found = {name: set(tags["tensors"]) for name, tags in events.Runs().items()}
    values = {"loss", "accuracy", "samples", "share"}
    assert found["lav_easy"] == found["lav_easy_too"] == values
    assert found["validation"] == {"loss", "accuracy"}
    assert found["train"] == {"loss", "accuracy", "learning_rate"}


def test_uses_the_averaged_weights(make_trainer: Any, blobs_class: Any) -> None:
    """With EMA, validation and LAV both use the average."""
    trainer = make_trainer(evaluated(blobs_class), "--trainer.lav_every_n", "1", "--trainer.calc_ema", "0.99")
    for logs in trainer.fit().history:
        assert logs["lav_loss"] == pytest.approx(logs["val_loss"], rel=1e-5)


def test_records_of_evaluators(make_trainer: Any, blobs_class: Any) -> None:
    """TensorBoard shows an evaluator's records of the whole list beside the list's curves, at each LAV."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    from aipcore.scenario import Histogram, Image, PRCurve

    class Showing(CountingEvaluator):
        def summaries(self) -> Any:
            yield Image("map", np.full((2, 3), self.samples / 100))
            yield Histogram("right", [self.right])
            yield PRCurve("curve", [1, 0], [0.9, 0.2])

    class Shown(with_lists(blobs_class)):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return Showing()

    trainer = make_trainer(Shown, "--trainer.lav_every_n", "2", "--trainer.epochs", "3", output="out", exports=False)
    trainer.fit()
    events = EventMultiplexer().AddRunsFromDirectory(str(trainer.output_dir / "tensorboard"))
    events.Reload()
    for part, samples in (("lav_easy", 10), ("lav_easy_too", 30)):
        assert {"map", "right", "curve", "share"} <= set(events.GetAccumulator(part).Tags()["tensors"])
        assert [event.step for event in events.Tensors(part, "map")] == [1, 2, 3]
        _, _, png = events.Tensors(part, "map")[0].tensor_proto.string_val
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.shape == (2, 3, 1)
        assert set(pixels.ravel()) == {round(255 * samples / 100)}
    assert "map" not in events.GetAccumulator("validation").Tags()["tensors"]


@pytest.mark.parametrize(
    "record",
    [
        lambda: 3,
        lambda: ["x"],
        lambda: [histogram("share")],
        lambda: [histogram("loss")],
    ],
)
def test_what_evaluators_cannot_show(make_trainer: Any, blobs_class: Any, record: Any, refused: Any) -> None:
    """Records that cannot be shown are reported before the first epoch."""

    class Wrong(CountingEvaluator):
        def summaries(self) -> Any:
            return record()

    class Shown(blobs_class):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return Wrong()

    with refused(ScenarioError):
        make_trainer(Shown, "--trainer.lav_every_n", "1")


def histogram(name: str) -> Any:
    """Return a record."""
    from aipcore.scenario import Histogram

    return Histogram(name, [1.0])


class Listening(Reporter):
    """A handler that keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_samples_are_printed(make_trainer: Any, blobs_class: Any) -> None:
    """Each LAV prints the given number of evenly spaced samples in the scenario's format after post-processing."""

    class Spoken(blobs_class):  # type: ignore[misc]
        def describe(self, targets: Any, outputs: Any) -> tuple[str, str]:
            return f"class\n{targets['']}", f"one of {len(outputs[''])}"

    listening = Listening()
    words = ("--trainer.lav_every_n", "1", "--trainer.epochs", "2", "--lav.show_samples", "3", "--lav.batch_size", "20")
    make_trainer(Spoken, *words, reporter=listening).fit()
    shown = [text for text in listening.texts if text.startswith("sample ")]
    labels = Spoken(None).val_data()[1]
    expected = [rf"sample {index}: target class\n{labels[index]}, prediction one of " for index in (0, 32, 63)]
    assert [text.rpartition(" ")[0] + " " for text in shown] == expected * 2


def test_a_failing_description_is_found_early(make_trainer: Any, blobs_class: Any) -> None:
    """A failing description is reported before the first epoch in one sentence that names the method."""

    class Mute(blobs_class):  # type: ignore[misc]
        def describe(self, targets: Any, outputs: Any) -> tuple[str, str]:
            raise KeyError("nothing")

    with pytest.raises(ScenarioError, match=r"Mute\.describe\(\) failed on a sample with meta None: KeyError"):
        make_trainer(Mute, "--trainer.lav_every_n", "1", "--lav.show_samples", "1")
