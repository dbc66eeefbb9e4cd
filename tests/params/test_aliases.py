"""Further names of parameters: accepted wherever a name is typed, and never recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aipcore.errors import ParamsError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, describe, field, fill, group, params, resolve, to_dict, to_json, to_yaml
from aipcore.params.files import read_mapping
from aipcore.params.tree import Leaf, find
from aipcore.scenario import ScenarioParams
from aipcore.training.params import run_params_class

ROOT = run_params_class(ScenarioParams)

ALIASES = {
    "early_stopping.patience": "early_stopping.n_to_go",
    "trainer.seed": "trainer.random_seed",
    "trainer.gradient_accumulation_steps": "trainer.accumulate_steps",
    "trainer.validation_freq": "trainer.val_every_n",
    "trainer.eval_steps": "trainer.val_every_steps",
    "trainer.logging_steps": "trainer.log_every_steps",
    "trainer.log_every_n_steps": "trainer.log_every_steps",
    "trainer.run_eagerly": "trainer.force_eager",
    "trainer.freeze": "trainer.no_train_scope",
    "trainer.ema_momentum": "trainer.calc_ema",
}


def resolved(*layers: Layer) -> Any:
    """Return the parameters of a run."""
    return resolve(ROOT, list(layers), get_plugin_manager())


def test_every_alias_is_listed_here() -> None:
    """The built-in parameters have these aliases."""
    options = describe(ROOT, get_plugin_manager())
    assert {alias: option.name for option in options for alias in option.aliases} == ALIASES


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_its_parameter(alias: str) -> None:
    """An alias finds the same node as the name, also with `-` in place of `_` and in the long form."""
    tree = fill(ROOT, [], get_plugin_manager())
    node = find(tree, ALIASES[alias])
    assert isinstance(node, Leaf)
    long = ".".join((*node.path[:-1], alias.rpartition(".")[2]))
    assert find(tree, alias) is find(tree, alias.replace("_", "-")) is find(tree, long) is node


@pytest.mark.parametrize("form", ["options", "long options", "dotted", "nested", "yaml"])
def test_the_name_is_recorded(form: str, tmp_path: Path) -> None:
    """Values, origins, YAML and JSON contain the name."""
    file = tmp_path / "params.yaml"
    file.write_text("early_stopping.patience: 3\ntrainer: {seed: 5}\n")
    layer = {
        "options": Layer.from_arguments(["--early_stopping.patience", "3", "--trainer.seed=5"]),
        "long options": Layer.from_arguments(["--trainer.early-stopping.patience", "3", "--trainer.seed", "5"]),
        "dotted": Layer.from_mapping("given", {"early_stopping.patience": 3, "trainer.seed": 5}),
        "nested": Layer.from_mapping("given", {"trainer": {"seed": 5, "early_stopping": {"patience": 3}}}),
        "yaml": Layer.from_file(file),
    }[form]
    found = resolved(layer)
    assert (found.value.trainer.early_stopping.n_to_go, found.value.trainer.random_seed) == (3, 5)
    assert found.origins["trainer.early_stopping.n_to_go"] == found.origins["trainer.random_seed"] == layer.name
    written = to_yaml(found.tree, origins=True), to_json(to_dict(found.value))
    for text, suffix in zip(written, (".yaml", ".json"), strict=True):
        again = tmp_path / f"again{suffix}"
        again.write_text(text)
        assert read_mapping(again)["trainer"]["random_seed"] == 5
        assert read_mapping(again)["trainer"]["early_stopping"]["n_to_go"] == 3
        assert "patience" not in text
        assert resolved(Layer.from_file(again)).value == found.value
    assert not any(
        alias.rpartition(".")[2] in name for alias in ALIASES for name in found.origins if "seed" not in name
    )


def test_a_later_layer_wins_under_either_name() -> None:
    """A name on the command line overrides an alias in a file, and the reverse."""
    for file, option in (("seed", "random_seed"), ("random_seed", "seed")):
        layers = Layer.from_mapping("file", {"trainer": {file: 1}}), Layer.from_arguments([f"--trainer.{option}", "2"])
        assert resolved(*layers).value.trainer.random_seed == 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            Layer.from_arguments(["--trainer.seed", "1", "--trainer.random-seed", "2"]),
            "--trainer.seed and --trainer.random-seed are the same option: give it once.",
        ),
        (
            Layer.from_mapping("p.yaml", {"early_stopping.patience": 1, "trainer.early_stopping": {"n_to_go": 2}}),
            "early_stopping.patience are the same option: give it once.",
        ),
        (
            Layer.from_arguments(["--early_stopping.patience", "0"]),
            "--early_stopping.patience: 0 is not allowed. It must be at least 1.",
        ),
        (
            Layer.from_mapping("p.yaml", {"early_stopping.patience": "x"}),
            "p.yaml: early_stopping.patience: 'x' is not allowed. It must be a whole number",
        ),
        (
            Layer.from_arguments(["--early_stopping.patince", "3"]),
            "There is no option --early_stopping.patince; did you mean --early_stopping.patience?",
        ),
        (Layer.from_arguments(["--patience", "3"]), "did you mean --early_stopping.n_to_go 3?"),
        (Layer.from_arguments(["--seed", "3"]), "did you mean --trainer.random_seed 3?"),
    ],
    ids=str,
)
def test_mistakes(layer: Layer, message: str) -> None:
    """Errors show what the user typed. Both names of a parameter in one layer are an error."""
    with pytest.raises(ParamsError) as caught:
        resolved(layer)
    assert message in str(caught.value)


def test_an_alias_may_not_clash() -> None:
    """An alias that is a field, the alias of another field or not a name is an error of the author."""

    def made(**aliases: tuple[str, ...]) -> type:
        fields = {name: field(1, help="A number.", aliases=found) for name, found in aliases.items()}
        return params(type("Clash", (), {**fields, "__annotations__": dict.fromkeys(aliases, int)}))

    @params
    class Inside:
        """Parameters with an alias."""

        number: int = field(1, help="A number.", aliases=("count", "n"))

    @params
    class Outside:
        """A group of these."""

        inside: Inside = group(Inside, help="Inside.")

    assert resolve(Outside, [Layer.from_arguments(["--inside.n", "3"])]).value.inside.number == 3
    for wrong in (
        made(number=("count",), count=()),
        made(number=("n",), count=("n",)),
        made(number=("a-b",)),
        made(number=("number",)),
    ):
        with pytest.raises(ParamsError, match=r"cannot have the alias .* Choose an unused name"):
            resolve(wrong, [])
