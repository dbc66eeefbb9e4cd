"""Names in any spelling compare equal, and misspelt ones are recognised."""

from __future__ import annotations

import pytest

from aipcore.params import nearest, normalize, one_of
from aipcore.params.names import count

OPTIONS = [
    "trainer.epochs",
    "trainer.output_dir",
    "trainer.val_every_n",
    "train.batch_size",
    "val.batch_size",
    "optimizer.epsilon",
    "learning_rate.lr",
]


def test_counts() -> None:
    """Counts use the singular or the plural."""
    found = [count(number, noun) for number, noun in ((1, "epoch"), (2, "epoch"), (0, "batch"), (1, "worker process"))]
    assert found == ["1 epoch", "2 epochs", "0 batches", "1 worker process"]
    assert [count(1000, "worker process"), count(2, "index")] == ["1,000 worker processes", "2 indexes"]


@pytest.mark.parametrize("name", ["AdaBelief", "adabelief", "ADABELIEF", "ada_belief", "Ada-Belief", "a_d-a_belief"])
def test_normalize_ignores_case_and_separators(name: str) -> None:
    """All spellings of a name compare equal."""
    assert normalize(name) == "adabelief"


def test_normalize_keeps_dots_and_digits() -> None:
    """Dots and digits distinguish options and are kept."""
    assert normalize("Trainer.Beta_1") == "trainer.beta1"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trainer.epoch", ["trainer.epochs"]),
        ("trainer.epcohs", ["trainer.epochs"]),
        ("--trainer.epoch", ["trainer.epochs"]),
        ("epochs", ["trainer.epochs"]),
        ("epoch", ["trainer.epochs"]),
        ("batch_size", ["train.batch_size", "val.batch_size"]),
        ("batch-size", ["train.batch_size", "val.batch_size"]),
        ("trian.batch_size", ["train.batch_size", "val.batch_size"]),
        ("lr", ["learning_rate.lr"]),
        ("trainer.lr", ["learning_rate.lr"]),
        ("outputdir", ["trainer.output_dir"]),
        ("xyzzy", []),
        ("", []),
    ],
)
def test_nearest_option(typed: str, meant: list[str]) -> None:
    """The whole name and its last part are compared; nonsense has no match."""
    assert nearest(typed, OPTIONS) == meant


def test_nearest_name() -> None:
    """A transposed name is found among similar ones, and an exact one in another spelling comes first."""
    names = ["Adam", "AdamW", "Adamax", "Nadam", "AdaBelief", "SGD"]
    assert nearest("adabelif", names) == ["AdaBelief"]
    assert nearest("adamw", names)[0] == "AdamW"
    assert nearest("sdg", names) == ["SGD"]
    assert nearest("sdx", names) == []


def test_nearest_is_short_and_stable() -> None:
    """At most three names are returned, independent of the order of the candidates."""
    names = [f"layer_{letter}" for letter in "abcdef"]
    assert len(nearest("layer_x", names)) == 3
    assert nearest("layer_x", names) == nearest("layer_x", reversed(names))
    assert nearest("layer_x", names, most=1) == ["layer_a"]


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_one_of(words: list[str], text: str) -> None:
    """Words are joined as in a sentence."""
    assert one_of(iter(words)) == text
