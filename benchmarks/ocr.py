"""Text recognition in aip and in Calamari 2.3.1: the same lines, network, batch size and number of epochs.

The lines are rendered from free fonts that come as Python packages, then blurred and noised. Both programs train
without augmentation and validate after each epoch. Their epochs take turns, and so do their passes of prediction. The
first epoch and the first pass, which compile, do not count. The error rates are those of the best models on the
held-out lines. Each program prepares lines in its own way: the prepared lines of Calamari, which cuts them out around
their center, are half as wide as those of aip, but it does not sort them by length. Calamari is installed into an
environment of its own, with Python 3.9 to 3.11.

    python benchmarks/ocr.py [--epochs 20] [--lines 500] [--held-out 100] [--environment FOLDER] [--folder FOLDER]
        [--fonts FILE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines
from peers import machine
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CALAMARI = "calamari-ocr==2.3.1"
FONTS = ("font-roboto", "font-source-sans-pro", "font-source-serif-pro")
"""Packages of free fonts. Aileron comes with Pillow."""

TRAIN_TARGET, PREDICT_TARGET = 1.3, 2.0
PASSES = 3
BATCH_SIZE = 16

AIP_PREDICTS = """
import json, sys, time
from aipcore.prediction import Predictor
model, folder = sys.argv[1:]
predictor = Predictor.load(model, params={"data.files": [folder]})
for _ in sys.stdin:
    begun = time.perf_counter()
    texts = {each.meta["path"]: each.outputs["text"] for each in predictor.predict_data(batch_size=16)}
    print("@" + json.dumps([time.perf_counter() - begun, texts]), flush=True)
"""

CALAMARI_PREDICTS = """
import json, sys, time
from calamari_ocr.ocr.dataset.datareader.file import FileDataParams
from calamari_ocr.ocr.predict.params import PredictorParams
from calamari_ocr.ocr.predict.predictor import Predictor
model, folder = sys.argv[1:]
settings = PredictorParams(progress_bar=False)
settings.pipeline.batch_size = 16
predictor = Predictor.from_checkpoint(params=settings, checkpoint=model)
for _ in sys.stdin:
    begun = time.perf_counter()
    found = list(predictor.predict(FileDataParams(images=[folder + "/*.png"])))
    texts = {each.meta["id"]: each.outputs.sentence for each in found}
    print("@" + json.dumps([time.perf_counter() - begun, texts]), flush=True)
"""


class Peer:
    """A process that is stopped between its turns.

    Attributes:
        seconds: the duration of each turn.
        peak_mib: the peak memory of the main process, known after `close`.
    """

    def __init__(self, words: Sequence[object], log: Path, turn_end: str) -> None:
        self.seconds: list[float] = []
        self.peak_mib = 0.0
        self._turn_end = re.compile(turn_end)
        self._log = log.open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )  # fmt: skip
        os.killpg(self._process.pid, signal.SIGSTOP)

    def turn(self) -> str:
        """Continue up to the line that ends a turn, and return it; empty if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun = time.perf_counter()
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if self._turn_end.search(line):
                os.killpg(self._process.pid, signal.SIGSTOP)
                self.seconds.append(time.perf_counter() - begun)
                return line
            self._log.write(line)
            self._log.flush()
        self.seconds.append(time.perf_counter() - begun)
        return ""

    def close(self) -> None:
        """Wait for the end of the process."""
        assert self._process.stdin is not None
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.stdin.close()
        _, status, usage = os.wait4(self._process.pid, 0)
        self.peak_mib = usage.ru_maxrss / 1024
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise SystemExit(f"A process failed. See {self._log.name}.")


def install(folder: Path) -> Path | None:
    """Return the environment of Calamari, which is created if it does not exist; None if that is not possible."""
    if (folder / "bin" / "calamari-train").exists():
        return folder
    own = sys.executable if sys.version_info < (3, 12) else None
    python = own or next(filter(None, map(shutil.which, ("python3.11", "python3.10", "python3.9"))), None)
    if python is None:
        print(f"{CALAMARI} is not installed: it needs Python 3.9 to 3.11.")
        return None
    words = ([python, "-m", "venv", folder], [folder / "bin" / "pip", "install", "--quiet", CALAMARI, "setuptools<81"])
    for each in words:
        if subprocess.run(each, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f"{CALAMARI} is not installed: {' '.join(map(str, each))} failed.")
            return None
    return folder


def fonts(folder: Path) -> list[Path]:
    """Return the files of the fonts, which are installed into a folder."""
    if not folder.exists():
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *FONTS]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    found = [sorted(package.rglob("*.*tf"), key=_not_regular) for package in sorted(folder.glob("font_*"))]
    return [each[0] for each in found if each]


def _not_regular(path: Path) -> tuple[bool, str]:
    return not path.stem.endswith("Regular"), path.name


def render(folder: Path, count: int, seed: int, files: Sequence[Path]) -> None:
    """Write lines as images, about 1,200 x 60 pixels, with their texts."""
    folder.mkdir()
    for index in range(count):
        generator = np.random.default_rng((seed, index))
        text = " ".join(PrintedLines.text(generator) for _ in range(4))
        number, size = index % (len(files) + 1), generator.uniform(38, 46)
        font = ImageFont.truetype(files[number - 1], size) if number else ImageFont.load_default(size)
        image = Image.new("L", (int(font.getlength(text)) + 30, 64), int(generator.integers(200, 256)))
        ImageDraw.Draw(image).text((15, 6), text, font=font, fill=int(generator.integers(0, 100)))
        image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0.5, 1.8)))
        noise = generator.normal(0, generator.uniform(5, 25), (image.height, image.width))
        Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(folder / f"{index:04d}.png")
        (folder / f"{index:04d}.gt.txt").write_text(f"{text}\n", encoding="utf-8")


def training(work: Path, environment: Path | None, epochs: int) -> dict[str, Peer]:
    """Return a peer that trains, by name."""
    peers = {
        "aip": Peer(
            [
                Path(sys.executable).with_name("aip"), "train", "text_line_recognition",
                "--train.lists", work / "train", "--val.lists", work / "held_out", "--data.height", 48,
                "--model.filters", 40, 60, "--model.units", 200, "--model.dropout", 0.5, "--data.augment", False,
                "--train.batch_size", BATCH_SIZE, "--trainer.epochs", epochs, "--trainer.output_dir", work / "aip",
                "--trainer.random_seed", 1,
            ],
            work / "aip.log", r"^epoch +\d+/",
        )
    }  # fmt: skip
    if environment is not None:
        peers["Calamari"] = Peer(
            [
                environment / "bin" / "calamari-train", "--train.images", work / "train" / "*.png",
                "--trainer.gen", "TrainVal", "--val.images", work / "held_out" / "*.png",
                "--network", "cnn=40:3x3,pool=2x2,cnn=60:3x3,pool=2x2,lstm=200,dropout=0.5", "--n_augmentations", 0,
                "--train.batch_size", BATCH_SIZE, "--val.batch_size", BATCH_SIZE, "--trainer.epochs", epochs,
                "--early_stopping.n_to_go", -1, "--trainer.output_dir", work / "calamari", "--trainer.random_seed", 1,
                "--trainer.progress_bar_mode", 2,
            ],
            work / "calamari.log", "Results of epoch",
        )  # fmt: skip
    return peers


def predicting(work: Path, environment: Path | None) -> dict[str, Peer]:
    """Return a peer that predicts, by name."""
    commands: dict[str, list[Any]] = {
        "aip": [sys.executable, "-c", AIP_PREDICTS, work / "aip" / "best", work / "held_out"]
    }
    if environment is not None:
        model = work / "calamari" / "best.ckpt"
        commands["Calamari"] = [environment / "bin" / "python", "-c", CALAMARI_PREDICTS, model, work / "held_out"]
    return {name: Peer(words, work / f"{name.lower()}.log", "^@") for name, words in commands.items()}


def in_turns(peers: dict[str, Peer], turns: int) -> dict[str, list[str]]:
    """Let peers take turns until each has had some, and wait for their ends. Return the lines that end the turns."""
    lines: dict[str, list[str]] = {name: [] for name in peers}
    for _ in range(turns):
        for name, peer in peers.items():
            lines[name].append(peer.turn())
    for peer in peers.values():
        peer.close()
    return lines


def error_rate(texts: dict[str, str], folder: Path) -> float:
    """Return the character error rate of texts by image, compared with the texts of a folder."""
    from aip_plugins.scenarios.text_line_recognition.metrics import edit_distance

    truth = {path.stem: path.with_suffix(".gt.txt").read_text("utf-8").strip() for path in folder.glob("*.png")}
    read = {Path(path).stem: text.strip() for path, text in texts.items()}
    return sum(edit_distance(read[name], text) for name, text in truth.items()) / sum(map(len, truth.values()))


def show(what: str, unit: str, values: dict[str, float], target: float | None = None, *, least: bool = False) -> None:
    """Print the values of the peers, their ratio, and a comparison with a target of the ratio."""
    print(f"{what:<36}" + "".join(f"{name:>10} {value:9.4g} {unit}" for name, value in values.items()))
    if target is None or len(values) < 2:
        return
    ratio = values["aip"] / max(values["Calamari"], 1e-9)
    met = ratio <= target if least else ratio >= target
    print(f"{'met' if met else 'NOT met'}: {ratio:.2f} times (target: at {'most' if least else 'least'} {target:g})")


def main() -> None:
    """Render, train, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each program (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=500, help="lines to learn from (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=100, help="lines for error rates (default: %(default)s)")
    parser.add_argument("--environment", type=Path, help="an environment with Calamari (default: a new one)")
    parser.add_argument("--folder", type=Path, help="a new folder that keeps lines, models and logs")
    parser.add_argument("--fonts", type=Path, nargs="+", help=f"font files (default: those of {', '.join(FONTS)})")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras", "numpy", "aipcore"))
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.folder or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        files = arguments.fonts or fonts(work / "fonts")
        print(f"{arguments.lines} lines in Aileron, {', '.join(file.stem for file in files)}")
        render(work / "train", arguments.lines, 1, files)
        render(work / "held_out", arguments.held_out, 2, files)
        environment = install(arguments.environment or work / "calamari_environment")
        peers = training(work, environment, arguments.epochs)
        in_turns(peers, arguments.epochs)
        seconds = {name: statistics.median(peer.seconds[1:]) for name, peer in peers.items()}
        # Calamari leaves out the lines that do not fill a batch.
        trained = {"aip": arguments.lines, "Calamari": arguments.lines // BATCH_SIZE * BATCH_SIZE}
        speeds = {name: trained[name] / each for name, each in seconds.items()}
        show("training, with validation", "lines/s", speeds, TRAIN_TARGET)
        show("peak memory of training", "MiB", {name: peer.peak_mib for name, peer in peers.items()})
        show("start to end of the first epoch", "s", {name: peer.seconds[0] for name, peer in peers.items()})
        peers = predicting(work, environment)
        lines = in_turns(peers, PASSES + 1)
        answers = {name: [json.loads(line[1:]) for line in each] for name, each in lines.items()}
        speeds = {
            name: arguments.held_out / statistics.median(seconds for seconds, _ in each[1:])
            for name, each in answers.items()
        }
        show("prediction", "lines/s", speeds, PREDICT_TARGET)
        show("peak memory of prediction", "MiB", {name: peer.peak_mib for name, peer in peers.items()})
        rates = {name: 100 * error_rate(each[-1][1], work / "held_out") for name, each in answers.items()}
        show(f"characters wrong after {arguments.epochs} epochs", "%", rates, 1.0, least=True)


if __name__ == "__main__":
    main()
