"""Time of a loaded predictor for one sample, compared with calling the exported model directly.

Both take turns, process one sample at a time, and return NumPy arrays. The predictor also runs the tutorial's
processors and names the digit. The bare call passes the array as a tensor to the SavedModel's serving signature.

    python benchmarks/predictor.py [CALLS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from aipcore.cli.main import main as aip
from aipcore.prediction import Predictor

LIMIT = 3
MODELS = {"MLP": [], "CNN": ["--model.graph", "CNN"]}


def seconds(calls: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median duration of each function, called in turns."""
    found: list[list[float]] = [[] for _ in functions]
    for _ in range(calls):
        for function, times in zip(functions, found, strict=True):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
    return [statistics.median(times[calls // 10 :]) for times in found]


def main() -> None:
    """Measure and print."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        for name, words in MODELS.items():
            path = Path(folder) / name
            options = ["--quiet", "--trainer.epochs", "1", "--trainer.output_dir", str(path), *words]
            if aip(["train", "tutorial", *options]):
                sys.exit("training failed")
            image = np.random.default_rng(0).random((8, 8), np.float32)
            predictor = Predictor.load(path / "best")
            signature = tf.saved_model.load(str(path / "best")).signatures["serving_default"]

            def bare(signature: object = signature, image: object = image) -> object:
                return signature(image=tf.constant(image[None]))["digit"].numpy()

            def raw(predictor: Predictor = predictor, image: object = image) -> object:
                return predictor.predict_raw({"image": image[None]})

            def whole(predictor: Predictor = predictor, image: object = image) -> object:
                return next(predictor.predict([{"image": image}])).outputs

            of_bare, of_raw, of_whole = seconds(calls, bare, raw, whole)
            print(f"{name}  bare model call                {1e6 * of_bare:6.0f} us")
            print(f"{name}  predict_raw, one sample        {1e6 * of_raw:6.0f} us  {of_raw / of_bare:5.2f} times")
            print(
                f"{name}  predict, one sample            {1e6 * of_whole:6.0f} us  {of_whole / of_bare:5.2f} times "
                f"(limit {LIMIT})"
            )


if __name__ == "__main__":
    main()
