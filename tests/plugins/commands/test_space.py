"""The values of --space, and the choices from it."""

from __future__ import annotations

from typing import Any

import pytest
from aip_plugins.commands.sweep.command import OPTIONS
from aip_plugins.commands.sweep.space import Space, make_space

from aipcore.cli.request import Arguments, make_request, sort_words
from aipcore.errors import UsageError


def space_of(*texts: str, words: tuple[str, ...] = ()) -> Space:
    """Return the space of the tutorial."""
    request = make_request(Arguments(scenario="tutorial", options={}, rest=list(words)), "sweep")
    return make_space(texts, request, words)


class TestForms:
    def test_ranges(self) -> None:
        """Ranges are uniform, logarithmic or in steps, and whole for integer parameters."""
        epsilon, epochs, dropout, rate = space_of(
            "optimizer.epsilon=log:1e-9..1e-5", "trainer.epochs=2..10:2", "model.graph.dropout=0..0.5",
            "--learning-rate.lr=1e-4..1",
        ).dimensions  # fmt: skip
        assert (epsilon.kind, epsilon.low, epsilon.high, epsilon.log) == ("float", 1e-9, 1e-5, True)
        assert (epochs.kind, epochs.low, epochs.high, epochs.step) == ("int", 2, 10, 2)
        assert epochs.points() == [2, 4, 6, 8, 10]
        assert (dropout.kind, dropout.log, dropout.step) == ("float", False, None)
        assert (rate.name, rate.low) == ("learning_rate.lr", 1e-4)

    def test_steps_are_exact(self) -> None:
        """The points of a range with steps are exact decimals."""
        (dropout,) = space_of("model.graph.dropout=0..0.7:0.1").dimensions
        assert dropout.points() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]

    def test_choices(self) -> None:
        """Choices may be any values, and names of components in any spelling."""
        graph, units, sizes = space_of(
            "model.graph=mlp,CNN", "model.graph.units=32,64", "train.batch_size=8,16"
        ).dimensions
        assert (graph.kind, graph.choices) == ("component", ("MLP", "CNN"))
        assert (units.kind, units.choices, sizes.numbers) == ("choice", ("32", "64"), True)

    def test_words_keep_all_digits(self) -> None:
        """A number goes to the command line with all its digits."""
        (epsilon,) = space_of("optimizer.epsilon=log:1e-9..1e-5").dimensions
        assert float(epsilon.word(1 / 3)) == 1 / 3

    def test_several(self) -> None:
        """--space takes several values, in all forms of options."""
        words = ["tutorial", "--space", "a=1,2", "b=1..2", "--trials", "3", "--space=c=1,2", "--space", "d=-1..1"]
        given, rest = sort_words(words, OPTIONS)
        assert given == {"--space": ["a=1,2", "b=1..2", "c=1,2", "d=-1..1"], "--trials": 3}
        assert rest == ["tutorial"]


@pytest.mark.parametrize(
    ("texts", "words", "message"),
    [
        (["optimizer.epsilonn=1..2"], (), "There is no option --optimizer.epsilonn; did you mean --optimizer.epsilon?"),
        (["optimizer=adam,lyon"], (), "There is no optimizer 'lyon'; did you mean Lion?"),
        (["train.batch_size=0..8"], (), "--train.batch_size: 0 is not allowed. It must be at least 1."),
        (["train.batch_size=1.5..8"], (), "train.batch_size takes integers only."),
        (["train.batch_size=8,many"], (), "--train.batch_size: many is not allowed. It must be a whole number"),
        (["train.batch_size=8..2"], (), "8 is not less than 2. Write the smaller end first."),
        (["train.batch_size=1..8:2"], (), "8 is not a whole number of steps from 1. End the range at 7."),
        (["train.batch_size=1..8:0"], (), "is not a range of numbers"),
        (["train.batch_size=1..many"], (), "is not a range of numbers"),
        (["train.batch_size=8"], (), "train.batch_size needs a range or at least two values"),
        (["train.batch_size=8,8"], (), "names 8 twice"),
        (["train.batch_size"], (), "--space train.batch_size is not allowed. Write NAME=LO..HI"),
        (["train=1,2"], (), "train is a group of parameters. Name one of them."),
        (["trainer.profile_steps=1,2"], (), "which cannot be searched"),
        (["optimizer.epsilon=log:0..1"], (), "a logarithmic range needs numbers above 0"),
        (["optimizer.epsilon=log:1..9:2"], (), "a logarithmic range has no step"),
        (["optimizer=log:adam,lion"], (), "Write log:LO..HI with two numbers"),
        (["trainer.optimizer=adam,sgd", "optimizer=adam,lion"], (), "are the same parameter"),
        (["trainer.epochs=1,2", "trainer.epochs=3,4"], (), "--space names a parameter twice"),
        (["model.graph.kernel_size=1..5"], (), "--model.graph.kernel_size belongs to CNN, but the graph is MLP"),
        (["callbacks.webhook.url=https://a.example/x,https://b.example"], ("--callbacks", "Webhook"), "a secret, and"),
        (["trainer.epochs=1,2"], ("--trainer.epochs", "3"), "--trainer.epochs is also in --space"),
        (["trainer.epochs=1,2"], ("--trainer.epoch", "3"), "There is no option --trainer.epoch; did you mean"),
        (["optimizer=adam,sgd"], ("--optimizer.beta_1=0.8",), "With optimizer SGD: --optimizer.beta_1 belongs to Adam"),
    ],
)  # fmt: skip
def test_refused(texts: list[str], words: tuple[str, ...], message: str) -> None:
    """One sentence names the fault before anything is computed."""
    with pytest.raises(UsageError) as raised:
        space_of(*texts, words=words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


class TestChoosing:
    def test_options_follow_their_component(self) -> None:
        """An option of a component is only chosen together with the component, in any order on the command line."""
        space = space_of("model.graph.kernel_size=1..5:2", "model.graph=MLP,CNN", "trainer.epochs=1..3")
        few = space.walk(lambda each: each.ends[0])
        assert few == {"model.graph": "MLP", "trainer.epochs": "1"}
        many = space.walk(lambda each: each.ends[-1])
        assert many == {"model.graph.kernel_size": "5", "model.graph": "CNN", "trainer.epochs": "3"}
        value = space.with_chosen(many).resolved().value
        assert (value.model.graph.params.kernel_size, value.trainer.epochs) == (5, 3)

    def test_options_that_stay(self) -> None:
        """The user's options of a component are kept if the sweep chooses the component."""
        space = space_of("optimizer=adam,lion", words=("--optimizer.beta_1", "0.5"))
        for name in ("Adam", "Lion"):
            assert space.with_chosen({"optimizer": name}).resolved().value.trainer.optimizer.params.beta_1 == 0.5

    def test_grid(self) -> None:
        """The grid has every point once, without options that a point lacks; the last parameter changes fastest."""
        space = space_of("model.graph=MLP,CNN", "model.graph.kernel_size=1..3:2", "trainer.epochs=1..2")
        assert space.grid() == [
            {"model.graph": "MLP", "trainer.epochs": 1},
            {"model.graph": "MLP", "trainer.epochs": 2},
            {"model.graph": "CNN", "model.graph.kernel_size": 1, "trainer.epochs": 1},
            {"model.graph": "CNN", "model.graph.kernel_size": 1, "trainer.epochs": 2},
            {"model.graph": "CNN", "model.graph.kernel_size": 3, "trainer.epochs": 1},
            {"model.graph": "CNN", "model.graph.kernel_size": 3, "trainer.epochs": 2},
        ]

    def test_grid_without_end(self, refused: Any) -> None:
        """A range without steps has no grid, and the size of a grid is limited."""
        with refused(UsageError):
            space_of("model.graph.dropout=0..0.5").grid()
        with refused(UsageError):
            space_of("trainer.epochs=1..200", "train.batch_size=1..200").grid()
