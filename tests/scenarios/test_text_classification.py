"""Text classification: folders and tables, classes, and a default run without network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from aip_plugins.scenarios.text_classification.params import TextParams
from aip_plugins.scenarios.text_classification.requests import PHRASES
from aip_plugins.scenarios.text_classification.scenario import TextClassification

from aipcore.errors import DataError


def scenario_of(*lists: Path, **data: Any) -> TextClassification:
    """Return the scenario with lists of training files."""
    params = TextParams()
    params = attrs.evolve(params, data=attrs.evolve(params.data, **data))
    return TextClassification(attrs.evolve(params, train=attrs.evolve(params.train, lists=lists)))


def pairs(samples: Any) -> list[tuple[str, str]]:
    """Return texts and classes."""
    return [(sample.inputs, sample.targets) for sample in samples]


def test_folders_tables_and_lists(tmp_path: Path) -> None:
    """The class is the folder of a text file, or a column of a table, alone or in a list."""
    expected = [("Rain, all day.", "bad"), ("Sun", "good")]
    for text, name in expected:
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / "1.txt").write_text(text, encoding="utf-8")
    table = tmp_path / "table.csv"
    table.write_text('id,review,mark\n1,"Rain, all day.",bad\n2,Sun,good\n', encoding="utf-8-sig")
    (tmp_path / "table.tsv").write_text("text\tlabel\nRain, all day.\tbad\nSun\tgood\n", encoding="utf-8")
    (tmp_path / "list.txt").write_text("table.tsv\n", encoding="utf-8")
    for place in ("texts", "table.tsv", "list.txt"):
        scenario = scenario_of(tmp_path / place)
        scenario.check()
        assert pairs(scenario.train_data()) == expected, place
    scenario = scenario_of(table, text="review", label="mark")
    assert pairs(scenario.train_data()) == expected
    assert scenario.derived_params().data.classes == ("bad", "good")
    assert [each.targets for each in scenario.source([table], targets=False)] == [None, None]


@pytest.mark.parametrize(
    "content",
    [
        "texts,label\na,b\n",
        "text,label\na,b,c\n",
        "text,label\na\n",
        "text,label\n\xff",
        "text,label\na,b\nc, \n",
        "text,label\na,b\nc,b\n",
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, content: str, refused: Any) -> None:
    """The sentence names the column, the line or the only class."""
    (tmp_path / "table.csv").write_bytes(content.encode("latin-1"))
    with refused(DataError):
        scenario_of(tmp_path / "table.csv").derived_params()


def test_average() -> None:
    """The features of a text are those of Keras' masked average, and zeros for a text without words."""
    import keras
    import numpy as np

    words = keras.Input((4,), dtype="int64")
    params = attrs.evolve(TextParams(), data=attrs.evolve(TextParams().data, classes=("a", "b")))
    model = keras.Model(words, TextClassification(params).build(words)["class"])
    table, kernel = model.get_layer("embedding").get_weights()[0], model.get_layer("classes").get_weights()[0]
    given = np.array([[1, 2, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    means = np.stack([table[[1, 2, 1]].mean(0), table[3], 0 * table[0]])
    np.testing.assert_allclose(model(given, training=False), means @ kernel, atol=1e-6)


def test_requests() -> None:
    """The data of the scenario is the same in each run, and no text is in both parts."""
    scenario = TextClassification(TextParams())
    train, val = pairs(scenario.train_data()), pairs(scenario.val_data())
    assert train == pairs(scenario.train_data())
    assert {label for _, label in train} == set(PHRASES) == set(scenario.derived_params().data.classes)
    assert len({text for text, _ in val} - {text for text, _ in train}) > 0.9 * len(val)


@pytest.mark.slow
def test_a_default_run_answers_raw_texts(make_trainer: Callable[..., Any]) -> None:
    """The default run classifies at least 90 of 100 held-out requests, and its export takes raw texts."""
    import tensorflow as tf

    classes = sorted(PHRASES)
    words = ("--data.classes", *classes, "--trainer.epochs", str(TextClassification.defaults["trainer.epochs"]))
    trainer = make_trainer(TextClassification, *words, "--trainer.tune", "off", output="run")
    assert trainer.fit().best >= 0.9
    serve = tf.saved_model.load(str(trainer.output_dir / "export")).signatures["serving_default"]
    found = serve(inputs=tf.constant(["The zip broke after a day.", "I cannot log in."]))["class"].numpy()
    assert [classes[number] for number in found.argmax(-1)] == ["returns", "account"]
