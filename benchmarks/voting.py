"""Character error rate of a vote of five models, one for each fold, compared with each model alone.

Renders lines to learn from and held-out lines, trains a cross-validation on the first and scores its models and their
vote on the others, with the commands of a user. The peer of the vote on aligned texts is the mean of the outputs.

    python benchmarks/voting.py [LINES [EPOCHS [SEED]]]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aip_plugins.scenarios.text_line_recognition.metrics import edit_distance
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines
from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition
from PIL import Image

from aipcore.cli.main import main as aip
from aipcore.prediction import Predictor
from aipcore.scenario import Scenario

HELD_OUT = 200


class MeanOfOutputs(TextLineRecognition):
    """The scenario with a vote on outputs."""

    vote_results = Scenario.vote_results


def write_lines(folder: Path, count: int, seed: int) -> None:
    """Write rendered lines with their texts."""
    folder.mkdir()
    source = PrintedLines(count, seed)
    for index in range(count):
        line: Any = source[index]
        Image.fromarray(line.inputs).save(folder / f"{index}.png")
        (folder / f"{index}.gt.txt").write_text(line.targets, encoding="utf-8")


def error_rate(folder: Path, held_out: Path) -> float:
    """Return the error rate of the mean of the outputs of all folds."""
    predictor = Predictor.load(folder, scenario=MeanOfOutputs, params={"data.files": [str(held_out)]})
    errors = characters = 0
    for each in predictor.predict_data():
        truth = Path(each.meta["path"]).with_suffix(".gt.txt").read_text(encoding="utf-8")
        errors += edit_distance(each.outputs["text"], truth)
        characters += len(truth)
    return errors / characters


def main() -> None:
    """Train, score and print."""
    given = [int(word) for word in sys.argv[1:]]
    lines, epochs, seed = given + [300, 24, 1][len(given) :]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        learned, held_out, scores = (folder / name for name in ("lines", "held-out", "scores.json"))
        write_lines(learned, lines, seed)
        write_lines(held_out, HELD_OUT, seed + 1_000_000)
        words = ["--trainer.folds", "5", "--trainer.epochs", str(epochs), "--trainer.random_seed", str(seed)]
        words += ["--train.lists", str(learned), "--trainer.output_dir", str(folder / "run"), "--quiet"]
        words += ["--train.batch_size", "8", "--trainer.jit_compile", "off"]
        if aip(["train", "text_line_recognition", *words]):
            sys.exit("training failed")
        if aip(["lav", str(folder / "run"), "--lav.lists", str(held_out), "--json", str(scores)]):
            sys.exit("scoring failed")
        found = json.loads(scores.read_text())["lists"][0]
        mean = error_rate(folder / "run", held_out)
    name = "character_error_rate"
    single = [values[name] for values in found["models"].values()]
    for number, rate in enumerate(single, start=1):
        print(f"fold {number}            {rate:.4f}")
    print(f"vote              {found['values'][name]:.4f}   best fold / vote {min(single) / found['values'][name]:.2f}")
    print(f"mean of outputs   {mean:.4f}   best fold / mean {min(single) / mean:.2f}")


if __name__ == "__main__":
    main()
