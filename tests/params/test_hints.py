"""Options as users of other frameworks write them: one error gives the correct option."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, component, field, group, params, resolve
from aipcore.params.files import Layer as AnyLayer
from aipcore.params.hints import OPTIONS
from aipcore.params.tree import Leaf, build_tree, find, owners
from aipcore.scenario.params import ModelParams, ScenarioParams
from aipcore.training.params import run_params_class


@params
class Model(ModelParams):
    """The parameters of a model."""

    units: tuple[int, ...] = field((64,), help="Units.")
    names: tuple[str, ...] = field((), help="Names.")


@params
class Params(ScenarioParams):
    """The parameters of a scenario."""

    model: Model = group(Model, help="A model.")


ROOT = run_params_class(Params)

WORDS = {
    "--optimizer.learning_rate 0.1": "did you mean --learning_rate.lr 0.1?",
    "--optimizer.lr 0.1": "did you mean --learning_rate.lr 0.1?",
    "--learning_rate 0.01": "Write --learning_rate.lr 0.01.",
    "--learning_rate 1e-3": "Write --learning_rate.lr 1e-3.",
    "--learning_rate.learning_rate 0.1": "did you mean --learning_rate.lr 0.1?",
    "--trainer.learning_rate.learning-rate 0.1": "did you mean --learning_rate.lr 0.1?",
    "--lr 0.1": "did you mean --learning_rate.lr 0.1?",
    "--seed 3": "did you mean --trainer.random_seed 3?",
    "--early_stopping 3": "did you mean --early_stopping.n_to_go 3?",
    "--callbacks.early_stopping.patience 3": "did you mean --early_stopping.n_to_go 3?",
    "--patience 3": "did you mean --early_stopping.n_to_go 3?",
    "--epochs 3": "did you mean --trainer.epochs 3?",
    "--batch-size 3": "did you mean --train.batch_size 3?",
    "--output_dir runs/a": "did you mean --trainer.output_dir runs/a?",
    "--gpus 0 1": "did you mean --device.gpus 0 1?",
    "--weight_decay 0.1": "did you mean --optimizer.weight_decay 0.1?",
    "--clipnorm 1": "did you mean --optimizer.clip_norm 1?",
    "--momentum 0.9": "--optimizer.momentum belongs to RMSprop, SGD or Muon, but the optimizer is Adam. Add",
    "--optimizer SGD --momentum 0.9": "did you mean --optimizer.momentum 0.9?",
    "--callbacks EarlyStopping": "Write --early_stopping.n_to_go 5",
    "--callbacks early_stopping": "Write --early_stopping.n_to_go 5",
    "--callbacks ModelCheckpoint": "--checkpoint.keep",
    "--callbacks ReduceLROnPlateau": "Write --callbacks ReduceOnPlateau.",
    "--callbacks CSVLogger": "Write --callbacks CSVLog.",
    "--callbacks CSVLog,WandB": "separate names with spaces: --callbacks CSVLog WandB.",
    "--callbacks A, B": "separate names with spaces: --callbacks A B.",
    "--model.units 64,64": "separate values with spaces: --model.units 64 64.",
    "--model.units [64, 64]": "separate values with spaces: --model.units 64 64.",
    "--model.units 64,x": "--model.units: 64,x is not allowed. It must be a list of values, each a whole number.",
    "--trainer.profile_steps 3,4": "separate values with spaces: --trainer.profile_steps 3 4.",
    "--export.formats tflite": "Use LiteRT, the new name of TensorFlow Lite.",
    "--export.formats h5": "Write Keras, which writes model.keras.",
    "--learning_rate cosine": "Write CosineDecay.",
    "--callbacks keras.callbacks:EarlyStopping": "Write --early_stopping.n_to_go 5",
    "--callbacks keras.callbacks.CSVLogger": "Write --callbacks CSVLog.",
    "--callbacks my.module:Beep": "Write a plugin whose build returns it: aip plugins new callback Beep.",
    "--optimizer keras.optimizers:Adam": "Write Adam.",
    "--optimizer keras.optimizers.Ftrl": "Write a plugin whose build returns it: aip plugins new optimizer Ftrl.",
    "--learning_rate keras.optimizers.schedules.CosineDecay": "Write CosineDecay.",
    "--train.num_processes 3": "tfaip's num_processes is --data.workers in aip (as many as there are cores",
    "--trainer.checkpoint_save_freq 2": "tfaip's checkpoint_save_freq is --checkpoint.every_steps in aip.",
    "--lav_silent": "tfaip's lav_silent has no equivalent in aip (LAV prints scores",
    "--current-epoch 3": "tfaip's current_epoch has no equivalent in aip (aip resume reads it from the checkpoint).",
    "--optimizer.global_clip_norm 1": "tfaip's global_clip_norm is --optimizer.clip_global_norm in aip (several are",
    "--learning_rate.alpha 0.1": "tfaip's alpha is --learning_rate.min_fraction in aip (0 instead of 0.1).",
    "--device.gpu_auto_tune": "tfaip's gpu_auto_tune has no equivalent in aip (TF_CUDNN",
    "--train.prefetch 3": "tfaip's prefetch is --data.buffer_mib in aip (in MiB).",
    "--trainer.ema_decay 0.9": "tfaip's ema_decay is --trainer.calc_ema in aip.",
}


def message(*layers: AnyLayer) -> str:
    """Return the error of resolving these layers."""
    with pytest.raises(AipError) as caught:
        resolve(ROOT, list(layers), get_plugin_manager())
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("words", WORDS, ids=str)
def test_options_of_other_frameworks(words: str) -> None:
    """Options of other frameworks get a hint on the command line."""
    text = message(Layer.from_arguments(words.split()))
    assert WORDS[words] in text
    assert text.startswith((words.split(maxsplit=1)[0], "There is no option --"))


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"learning_rate": 0.01}, "0.01 is not the name of a schedule. Set learning_rate.lr."),
        ({"optimizer.learning_rate": 0.01}, "optimizer.learning_rate is unknown; did you mean learning_rate.lr?"),
        ({"seed": 1}, "seed is unknown; did you mean trainer.random_seed?"),
        ({"callbacks": ["EarlyStopping"]}, "Write --early_stopping.n_to_go 5"),
        ({"train": {"num_processes": 3}}, "train.num_processes is unknown. tfaip's num_processes is --data.workers in"),
        ({"callbacks": ["keras.callbacks:EarlyStopping"]}, "Write --early_stopping.n_to_go 5"),
    ],
)
def test_in_python_and_files(values: dict[str, Any], hint: str) -> None:
    """Options of other frameworks get a hint in a scenario's `defaults`, in a file and in Python."""
    assert hint in message(Layer.from_mapping("defaults", values))


def test_json_is_not_the_name_of_a_plugin() -> None:
    """A JSON value in place of a name lists the names, and is not part of a command."""
    text = message(Layer.from_arguments(["--optimizer", '{"name": "Ftrl"}']))
    assert text.startswith('There is no optimizer \'{"name": "Ftrl"}\'; available: ')


def test_a_comma_can_be_part_of_a_text() -> None:
    """Lists of texts keep their commas."""
    resolved = resolve(ROOT, [Layer.from_arguments(["--model.names", "a,b", "c"])], get_plugin_manager())
    assert resolved.value.model.names == ("a,b", "c")


def tfaip_options() -> list[str]:
    """Return the paths of aip's options in the hints for tfaip."""
    text = files("aipcore.params").joinpath("tfaip.json").read_text(encoding="utf-8")
    return re.findall(r"--(\w+\.\w+)", text)


def test_short_names_are_not_taken_for_options_of_tfaip() -> None:
    """A short name such as `files` is ambiguous and gets no tfaip hint; one with its group does."""
    assert "tfaip" not in message(Layer.from_arguments(["--model.files", "3"]))
    assert "tfaip" not in message(Layer.from_arguments(["--id", "3"]))


@pytest.mark.parametrize("path", sorted({*OPTIONS.values(), *tfaip_options()}))
def test_every_hint_is_an_option(path: str) -> None:
    """Each suggested option exists, for the selected optimizer or for another one."""
    plugins = get_plugin_manager()
    tree = build_tree(ROOT, plugins)
    assert isinstance(find(tree, path), Leaf) or owners(tree, path)


def test_format_of_an_export(refused: Any) -> None:
    """`aip export --format tflite` refers to LiteRT."""

    @params
    class Export:
        """The parameters of an export."""

        format: Any = component("exporter", default=None, help="The format.")

    with refused(AipError):
        resolve(Export, [Layer.from_arguments(["--format", "tflite"])], get_plugin_manager())
    assert resolve(Export, [Layer.from_arguments(["--format", "litert"])], get_plugin_manager()).value.format
