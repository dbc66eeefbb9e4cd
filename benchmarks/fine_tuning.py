"""Epochs to learn ten more characters, by a new text model and by one trained without them.

A model learns printed lines of 50 characters. The others then learn lines of 60, with the same parameters: a new model,
the first one with a new output layer, and the first one with the weights of its characters (`--data.alphabet_mode
extend`, the default). Each trains until the character error rate of held-out lines is below the last of `RATES`.

    python benchmarks/fine_tuning.py [--lines N] [--epochs N]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import attrs
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines
from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition
from peers import machine

import aipcore as aip

NEW = "DEGIJKNORW"
"""Three of ten capitalized words begin with one of these."""
KNOWN = "".join(sorted({*" ,.0123456789abcdefghijklmnopqrstuvwxyz", *"ABCFHLMPQST"}))
RATES = (0.1, 0.05, 0.04)
LIMIT = 10
"""Epochs of a new model for each epoch of fine-tuning, to the last rate."""


@attrs.frozen
class Lines(PrintedLines):
    """Printed lines of some characters."""

    characters: str

    def text(self, generator: Any) -> str:  # type: ignore[override]
        """Return the first text without other characters."""
        while not set(text := PrintedLines.text(generator)) <= set(self.characters):
            pass
        return text


class FewCharacters(TextLineRecognition):
    """Recognizes printed lines of 50 characters."""

    characters = KNOWN

    def own_train_data(self) -> Lines:
        """Return lines to learn from."""
        return Lines(self.params.data.printed_lines, self.params.data.printed_seed, self.characters)

    def own_val_data(self) -> Lines:
        """Return held-out lines."""
        return Lines(200, 1_000_000, self.characters)


class MoreCharacters(FewCharacters):
    """Recognizes printed lines of 60 characters."""

    characters = KNOWN + NEW


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=500, help="lines of an epoch with 60 characters")
    parser.add_argument("--epochs", type=int, default=60, help="the most epochs")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras"))
    params = {
        "learning_rate": "Constant", "trainer.random_seed": 1, "trainer.write_checkpoints": False,
        "trainer.export_final": False,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        few = {**params, "data.alphabet": KNOWN, "trainer.epochs": 8}
        result = aip.train(FewCharacters, few, source, quiet=True)
        print(f"source: {result.epochs} epochs of 3,000 lines of 50 characters, error rate {result.best:.3f}")
        print(f"{'epochs to an error rate of':<34}{''.join(f'{rate:8g}' for rate in RATES)}")
        stop = {"trainer.epochs": arguments.epochs, "early_stopping.lower_threshold": RATES[-1]}
        lines = {"data.printed_lines": arguments.lines, "data.printed_seed": 2, "trainer.export_best": False}
        start = {"warmstart.model": str(source)}
        variants = {
            "60 characters, new model": {"data.alphabet": KNOWN + NEW},
            "60 characters, new output layer": {**start, "warmstart.exclude": "characters/.*"},
            "60 characters, known ones kept": start,
        }
        epochs = []
        for number, (what, variant) in enumerate(variants.items()):
            more = {**params, **stop, **lines, **variant}
            result = aip.train(MoreCharacters, more, Path(folder, str(number)), quiet=True)
            epochs.append([first_epoch(result, rate) for rate in RATES])
            cells = "".join(f"{each or f'over {result.epochs}':>8}" for each in epochs[-1])
            print(f"{what:<34}{cells}   {result.seconds:4.0f} s", flush=True)
    new, adapted = epochs[0][-1] or arguments.epochs, epochs[-1][-1]
    met = adapted is not None and new >= LIMIT * adapted
    print(
        f"{'met' if met else 'NOT met'}: {adapted} epochs of fine-tuning for {new} of a new model (limit 1 for {LIMIT})"
    )


def first_epoch(result: aip.TrainResult, rate: float) -> int | None:
    """Return the first epoch with an error rate of at most `rate`, counted from 1; None if there is none."""
    rates = [logs["val_character_error_rate"] for logs in result.history]
    return next((epoch for epoch, each in enumerate(rates, start=1) if each <= rate), None)


if __name__ == "__main__":
    main()
