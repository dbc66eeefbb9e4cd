"""The packaged model fits its scenarios and improves accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from aip_plugin_textmodel.docstrings import TOPICS, docstrings, is_held_out, topic_of
from aip_plugin_textmodel.topics import PRETRAINED
from aip_plugin_textmodel.vocabulary import PACKAGED, SIZE, Encode, read_vocabulary

from aipcore.cli.main import main
from aipcore.scenario import Sample

FROZEN = "--trainer.no_train_scope words|text"


def accuracies(tmp_path: Path, *words: str) -> list[float]:
    """Return the validation accuracy of each epoch of fine-tuning."""
    run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    log = run.with_suffix(".jsonl")
    command = ["train", "docstring_topics", "--trainer.output_dir", str(run), "--quiet", "--json-log", str(log)]
    assert main([*command, "--trainer.random_seed", "1", "--trainer.jit_compile", "off", *words]) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [event["logs"]["val_accuracy"] for event in events if event["event"] == "epoch"]


def test_package() -> None:
    """The files are small, and all topics have docstrings for training and validation."""
    assert PRETRAINED.stat().st_size <= 300_000
    assert len(read_vocabulary(PACKAGED)) == SIZE
    labelled = [(topic_of(module), is_held_out(text)) for module, text in docstrings()]
    for topic in range(len(TOPICS)):
        assert labelled.count((topic, True)) >= 10
        assert labelled.count((topic, False)) >= 20


def test_words_as_numbers(tmp_path: Path) -> None:
    """Words keep their order, unknown words become 1, padding is 0, and joined words are split."""
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("mail\nsend\n")
    numbers = Encode(vocabulary).process(Sample(inputs="Send_mail, then sendMail!")).inputs
    np.testing.assert_array_equal(numbers[:6], [3, 2, 1, 3, 2, 0])
    assert numbers.dtype == np.int32


def test_fine_tuning_learns_faster_than_from_scratch(tmp_path: Path) -> None:
    """4 epochs of fine-tuning beat the best of 12 from scratch. So does the new layer alone after 12 epochs."""
    scratch = accuracies(tmp_path, "--warmstart.model", "none", "--trainer.epochs", "12")
    tuned = accuracies(tmp_path, "--trainer.epochs", "4")
    frozen = accuracies(tmp_path, "--trainer.epochs", "12", *FROZEN.split())
    assert tuned[-1] > max(scratch) + 0.02
    assert frozen[-1] > max(scratch) + 0.02
