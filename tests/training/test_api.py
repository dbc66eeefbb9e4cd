"""Training and resuming from a Python program: in a thread, twice in one process, and within another program."""

from __future__ import annotations

import io
import json
import logging
import random
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import aipcore as aip
from aipcore.data.pipeline import Pipeline
from aipcore.errors import AipError, DataError, ParamsError, ScenarioError, UsageError
from aipcore.scenario import Sample, Scenario
from aipcore.training.fingerprint import differences
from aipcore.training.reporter import Reporter

QUICK: dict[str, Any] = {
    "trainer": {
        "epochs": 1, "random_seed": 5, "force_eager": True, "skip_sanity_check": True, "export_best": False,
        "export_final": False,
    },
    "data.workers": 0,
}  # fmt: skip
FEW: dict[str, Any] = {"trainer": {"epochs": 1, "random_seed": 5, "tune": "off", "skip_sanity_check": True}}


class Sums(Scenario):
    """A scenario that learns sums of random numbers."""

    def train_data(self) -> Any:
        numbers = np.random.default_rng(1).random((24, 3), np.float32)
        return numbers, numbers.sum(axis=1, keepdims=True)

    def val_data(self) -> Any:
        inputs, targets = Sums.train_data(self)
        return inputs[:8], targets[:8]

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(inputs)

    def losses(self) -> Any:
        return keras.losses.MeanSquaredError()


def test_the_package_is_light() -> None:
    """Importing the package and its functions does not import TensorFlow; calling `train` does."""
    code = (
        "import sys, aipcore; from aipcore import train, resume, Scenario, TrainResult; dir(aipcore); "
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules and name != 'numpy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="module 'aipcore' has no attribute 'tarin'"):
        _ = aip.tarin


class Epochs(Reporter):
    """A listener that keeps the epochs."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def epoch_ended(self, report: Any) -> None:
        self.epochs.append(report.epoch)


def test_train_and_resume(tmp_path: Path, monkeypatch: Any) -> None:
    """A class is trained, resumed and applied. The result has the exported model, and no global state changes."""
    monkeypatch.chdir(tmp_path)
    root, policy, signals = logging.getLogger(), keras.config.dtype_policy(), signal.getsignal(signal.SIGINT)
    before = root.level, list(root.handlers)
    said = io.StringIO()
    params = {"optimizer": "SGD", "optimizer.momentum": np.float32(0.5), "trainer.calc_ema": 0.5, **FEW}
    with redirect_stdout(said):
        first = aip.train(Sums, {**params, "trainer.precision": "float16"}, "runs/a")
    assert (root.level, list(root.handlers), keras.config.dtype_policy()) == (*before, policy)
    assert signal.getsignal(signal.SIGINT) is signals
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("scenario   sums")
    assert any(line.startswith("epoch 1/1") for line in lines)
    assert "\x1b" not in said.getvalue()
    about = json.loads(Path("runs/a/run.json").read_text())
    assert about["params"]["trainer"]["optimizer"]["momentum"] == 0.5
    assert (first.status, first.epochs, len(first.history)) == ("finished", 1, 1)
    reporter = Epochs()
    second = aip.resume("runs/a", {"trainer": {"epochs": 3}}, scenario=Sums, strict_data=True, reporter=reporter)
    assert reporter.epochs == [2, 3]
    assert second.history[0] == first.history[0]
    assert second.best == min(logs["val_loss"] for logs in second.history)
    inputs = np.random.default_rng(2).random((4, 3), np.float32)
    answers = list(aip.Predictor.load("runs/a/export", scenario=Sums).predict(inputs))
    expected = second.model.predict(inputs, verbose=0)
    np.testing.assert_allclose([answer.outputs[""] for answer in answers], expected, rtol=1e-5)


def test_in_a_thread_and_twice(tmp_path: Path) -> None:
    """Consecutive runs in a thread are bit-identical to a run in the main thread, such as one of a shell."""
    results: list[Any] = []

    def work() -> None:
        for name in ("one", "two"):
            results.append(aip.train(Sums, FEW, tmp_path / name, quiet=True))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    trainer = aip.Trainer.from_scenario(Sums, FEW, tmp_path / "three", quiet=True)
    assert not (tmp_path / "three").exists()
    results.append(trainer.fit())
    assert (tmp_path / "three" / "train.log").read_text().count("epoch 1/1") == 1
    weights = [result.model.get_weights() for result in results]
    for others in weights[1:]:
        for one, other in zip(weights[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    """A trainer without an output folder writes nothing."""
    monkeypatch.chdir(tmp_path)
    result = aip.Trainer.from_scenario(Sums, FEW, quiet=True).fit()
    assert (result.saved, result.output_dir) == ([], None)
    assert list(tmp_path.iterdir()) == []


class Notes(Reporter):
    """A handler that keeps messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_fit_again(tmp_path: Path) -> None:
    """Fitting a finished trainer again returns the same result and reports that nothing is left to train."""
    notes = Notes()
    trainer = aip.Trainer.from_scenario(Sums, QUICK, tmp_path / "out", reporter=notes)
    result = trainer.fit()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    notes.texts.clear()
    assert trainer.fit() is result
    assert notes.texts == [
        "The run finished after 1 epoch, so this trainer has nothing to train. Create a new trainer to train further."
    ]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("side", ["inputs", "targets", "weights"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_arrays(side: str, kind: type, refused: Any) -> None:
    """Several inputs or targets may be a list, as in Keras; the error names the form that aip accepts."""
    arrays, targets = Sums.train_data(None)
    several = kind([targets, np.concatenate([targets, targets], axis=1)])
    data = {"inputs": (several, targets), "targets": (arrays, several), "weights": (arrays, targets, several)}[side]
    cls = type("Lists", (Sums,), {"train_data": lambda self: data})
    with refused(DataError):
        aip.Trainer.from_scenario(cls, QUICK)
    rows = [[1.0, 2.0]] * 24
    assert aip.Trainer.from_scenario(type("Rows", (Sums,), {"train_data": lambda self: (arrays, rows)}), QUICK)


def test_a_group_without_parameters(refused: Any) -> None:
    """An option of a group without parameters is reported as unknown in one sentence."""
    with refused(ParamsError):
        aip.Trainer.from_scenario(Sums, {"model": {"x": 1}})


@pytest.mark.parametrize(
    ("scenario", "params", "error"),
    [
        ("tutorail", {}, ScenarioError),
        (int, {}, ScenarioError),
        (7, {}, ScenarioError),
        (Sums, {"trainer.epoch": 3}, ParamsError),
        (Sums, {"trainer": {"epochs": "x"}}, ParamsError),
        (Sums, {"optimizer": "adamm"}, ParamsError),
        (Sums, {"trainer.output_dir": __file__}, UsageError),
        (Sums, {"device.strategy": "multi_worker"}, AipError),
    ],
)
def test_refused(scenario: Any, params: Any, error: type[AipError], refused: Any) -> None:
    """Unusable arguments raise one of aip's errors with one sentence."""
    with refused(error) as caught:
        aip.train(scenario, params)
    assert "\n" not in str(caught.value)


class Failing(Sums):
    """A scenario that fails when it is built."""

    def build(self, inputs: Any) -> Any:
        raise KeyError("oops")


def test_an_author_fails(tmp_path: Path) -> None:
    """An exception of the scenario becomes an error of aip and leaves no files behind."""
    policy = keras.config.dtype_policy()
    with pytest.raises(AipError, match=r"KeyError: 'oops' \(.*test_api\.py, line \d+, in build\)"):
        aip.train(Failing, {**FEW, "trainer.precision": "float16"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert keras.config.dtype_policy() == policy


def test_a_class_of_a_function(tmp_path: Path, refused: Any) -> None:
    """A class that cannot be imported again must be passed to resume its run."""

    class Local(Sums):
        pass

    aip.train(Local, QUICK, tmp_path / "out", quiet=True)
    with refused(ScenarioError):
        aip.resume(tmp_path / "out", trust=True)
    done = aip.resume(tmp_path / "out", scenario=Local, quiet=True)
    assert (done.status, done.model, len(done.history)) == ("finished", None, 1)


@pytest.mark.parametrize("export", [True, False])
def test_finished_without_checkpoints(export: bool, tmp_path: Path, refused: Any) -> None:
    """A finished run is not trained again, even without a checkpoint."""
    more = {"trainer.write_checkpoints": False, "trainer.export_final": export}
    result = aip.train(Sums, {**FEW, **more}, tmp_path / "out", quiet=True)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = io.StringIO()
    with redirect_stdout(said):
        again = aip.resume(tmp_path / "out", scenario=Sums)
    assert said.getvalue() == (
        f"The run in {tmp_path / 'out'} ended without a checkpoint. There is nothing to resume.\n"
    )
    assert again.history == result.history
    with refused(UsageError):
        aip.resume(tmp_path / "out", {"trainer.epochs": 3}, scenario=Sums)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


class Folder:
    """Samples by index that have file names."""

    def __init__(self, numbers: list[int]) -> None:
        self.paths = [Path(f"/data/{number}.png") for number in numbers]
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        number = np.float32(self.numbers[index])
        return Sample(inputs=np.full(3, number), targets=np.full(1, number))


def made(training: Any) -> type[Scenario]:
    """Return a scenario with this data."""
    return type("Changing", (Sums,), {"train_data": lambda _: training, "val_data": lambda _: None})


ARRAYS = Sums.train_data(None)  # type: ignore[arg-type]
OTHER = (ARRAYS[0], np.concatenate([ARRAYS[1][:23], ARRAYS[1][23:] + 1]))


CHANGES = [
    (ARRAYS, (ARRAYS[0][:20], ARRAYS[1][:20]), "20 samples instead of 24"),
    (ARRAYS, OTHER, "sample 23 is different"),
    (ARRAYS, (ARRAYS[0] + 1, ARRAYS[1]), "sample 0 is different, and 15 more of the 16 compared"),
    (Folder([1, 2, 3]), Folder([2, 1, 3]), "the files or their order are different"),
    (Folder(list(range(30))), Folder(list(range(30))), ""),
    ([Sample(inputs=1.0, targets=x) for x in (1, 2)], [Sample(inputs=1.0, targets=x) for x in (1, 3)], "sample 1"),
    # The result must not depend on the use of processors.
    (ARRAYS, [Sample(inputs=x.astype(np.float64), targets=y) for x, y in zip(*ARRAYS, strict=True)], ""),
]


@pytest.mark.parametrize(("before", "now", "change"), CHANGES)
def test_differences(before: Any, now: Any, change: str) -> None:
    """A difference in the data is reported in one sentence that names it."""

    def data(given: Any) -> Any:
        found = Pipeline(given).fingerprint()
        return {"source": {}, "data": json.loads(json.dumps({"train": found, "lav": found}))}

    found = differences(data(before), data(now))
    assert len(found) == (2 if change else 0)
    if change:
        assert found[0].startswith(f"The training data changed: {change}")
        assert found[1].startswith(f"The data of the LAV list lav changed: {change}")


def test_changed_data(tmp_path: Path) -> None:
    """A difference causes one warning, or, in strict mode, an error before anything is written."""
    before, now = made(ARRAYS), made(OTHER)
    change = "The training data changed: sample 23 is different."
    aip.train(before, QUICK, tmp_path / "out", quiet=True)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    more = {"trainer.epochs": 2}
    with pytest.raises(UsageError) as caught:
        aip.resume(tmp_path / "out", more, scenario=now, strict_data=True, quiet=True)
    assert str(caught.value) == f"{change} Restore the original data and source, or resume without --strict-data."
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    warnings: list[str] = []

    class Warnings(Reporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    aip.resume(tmp_path / "out", more, scenario=now, reporter=Warnings())
    assert warnings == [change]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["resumed"][0]["differences"] == warnings


SOURCE = """
from aipcore.scenario import Scenario
import numpy as np
from layers_beside import layer

class Filed(Scenario):
    def train_data(self):
        return np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[:, :1]

    def build(self, inputs):
        import keras
        return keras.layers.Dense(1)(layer(inputs))

    def losses(self):
        return "mse"
"""


def test_changed_source(tmp_path: Path, monkeypatch: Any, refused: Any) -> None:
    """A layer without weights that is added in a file beside the scenario fits the checkpoint and is reported."""
    file, beside = tmp_path / "filed.py", tmp_path / "layers_beside.py"
    file.write_text(SOURCE)
    beside.write_text("def layer(inputs):\n    return inputs\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    aip.train(str(file), QUICK, tmp_path / "out", quiet=True)
    with refused(UsageError):
        aip.resume(tmp_path / "out", {"trainer.epochs": 2})
    beside.write_text("def layer(inputs):\n    import keras\n    return keras.layers.Activation('tanh')(inputs)\n")
    sys.modules.pop("layers_beside")
    with refused(UsageError):
        aip.resume(tmp_path / "out", {"trainer.epochs": 2}, trust=True, strict_data=True, quiet=True)
    sys.modules.pop("layers_beside")


def test_no_fingerprint(tmp_path: Path, refused: Any) -> None:
    """Data without a recorded fingerprint cannot be compared strictly, and a forged record is not trusted."""
    aip.train(Sums, QUICK, tmp_path / "out", quiet=True)
    file = tmp_path / "out" / "run.json"
    about = json.loads(file.read_text())
    for found in (None, 3, {"data": {"train": {"size": [], "samples": 5, "files": {}}, "x": 1}, "source": []}):
        file.write_text(json.dumps({**about, "fingerprint": found}))
        if not isinstance(found, dict):
            with refused(UsageError):
                aip.resume(tmp_path / "out", {"trainer.epochs": 2}, scenario=Sums, strict_data=True, quiet=True)
    aip.resume(tmp_path / "out", {"trainer.epochs": 2}, scenario=Sums, quiet=True)


class Drawn(Folder):
    """Samples that are drawn again on each access, as by augmentation in `__getitem__`."""

    def __getitem__(self, index: int) -> Sample:
        noise = np.float32(random.random() + np.random.random())
        return Sample(inputs=np.full(3, noise), targets=np.full(1, noise))


def test_hashing_draws_nothing() -> None:
    """The fingerprint does not change random generators and has no hashes of samples that change."""
    from aipcore.data.adapters.indexed import IndexedSamples
    from aipcore.data.fingerprint import SAMPLES, fingerprint

    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    found = fingerprint(IndexedSamples(Drawn(list(range(100))), "data"))
    assert (found["size"], found["samples"]) == (100, None)
    assert (random.random(), np.random.random()) == expected
    samples = fingerprint(IndexedSamples(Folder(list(range(100))), "data"))["samples"]
    assert next(iter(samples)) == "0"
    assert list(samples)[-1] == "99"
    assert len(samples) == SAMPLES


@pytest.mark.slow
def test_runs_of_several_threads_wait_for_each_other(tmp_path: Path) -> None:
    """Runs that start at the same time in several threads give the same numbers as consecutive runs."""
    alone = aip.train(Sums, FEW, tmp_path / "alone", quiet=True).history
    found: list[Any] = []

    def run(number: int) -> None:
        found.append(aip.train(Sums, FEW, tmp_path / f"run-{number}", quiet=True).history)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3


def test_parameters_as_on_the_command_line(refused: Any) -> None:
    """A list of component names can be combined with dotted options; values that are not mappings are refused."""
    from aipcore.training.request import request_of

    callbacks = {"callbacks": ["LearningRateMonitor"], "callbacks.LearningRateMonitor.csv": True}
    for given in (callbacks, dict(reversed(callbacks.items()))):
        (callback,) = request_of(Sums, given, None).resolved().value.trainer.callbacks
        assert callback.params.csv
    with refused(AipError):
        request_of(Sums, [1], None)  # type: ignore[arg-type]


class OtherSums(Sums):
    """Another class in the same file."""


def test_another_class_is_noticed(tmp_path: Path, refused: Any) -> None:
    """Replacing the recorded class by another one of the same file is a difference of the scenario's source."""
    aip.train(Sums, FEW, tmp_path / "out", quiet=True)
    with refused(AipError):
        aip.resume(tmp_path / "out", {"trainer.epochs": 2}, scenario=OtherSums, strict_data=True, quiet=True)
