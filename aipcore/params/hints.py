"""Errors for unknown options and names, with the equivalents in aip of options from other frameworks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Final

from aipcore.errors import ParamsError
from aipcore.params.files import Option
from aipcore.params.names import nearest, normalize, one_of
from aipcore.params.tree import Component, Group, Leaf, also, find, leaves, owners, shown, walk
from aipcore.params.types import LeafType, NotAllowedError


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {name: meaning for meaning, names in table.items() for name in names.split()}


OPTIONS: Final = _by_name(
    {
        "learning_rate.lr": "lr optimizer.lr optimizer.learningrate learningrate.learningrate learningrate.rate "
        "learningrate.initiallearningrate trainer.lr trainer.learningrate.learningrate",
        "trainer.epochs": "epochs epoch numepochs maxepochs nepochs train.epochs",
        "train.batch_size": "batchsize bs batch trainer.batchsize data.batchsize",
        "trainer.random_seed": "seed randomseed trainer.seed",
        "trainer.output_dir": "outputdir outputfolder output out o dir rundir logdir savedir modeldir",
        "trainer.precision": "precision mixedprecision amp fp16 dtype",
        "trainer.accumulate_steps": "accumulatesteps accumulation gradientaccumulation gradientaccumulationsteps",
        "trainer.samples_per_epoch": "samplesperepoch stepsperepoch trainer.stepsperepoch",
        "trainer.val_every_n": "validationfreq valfreq evalevery",
        "trainer.val_every_steps": "valcheckinterval trainer.valcheckinterval evalsteps valsteps valeverynsteps",
        "trainer.log_every_steps": "loggingsteps logeverynsteps logevery logsteps",
        "trainer.max_steps": "maxsteps numsteps totalsteps maxupdates trainer.maxupdates",
        "trainer.force_eager": "eager runeagerly debugeager",
        "trainer.jit_compile": "jit xla jitcompile",
        "trainer.calc_ema": "ema useema emarate emamomentum",
        "trainer.no_train_scope": "freeze frozen",
        "device.gpus": "gpu gpus gpuid gpuids device.gpu trainer.gpus",
        "data.workers": "workers numworkers",
        "early_stopping.n_to_go": "patience earlystop earlystopping earlystopping.patience "
        "callbacks.earlystopping.patience trainer.patience",
        "optimizer.momentum": "momentum",
        "optimizer.weight_decay": "weightdecay wd l2",
        "optimizer.clip_global_norm": "globalclipnorm clipglobalnorm gradientclipping gradclip maxgradnorm",
        "optimizer.clip_norm": "clipnorm optimizer.clipnorm",
        "optimizer.clip_value": "clipvalue optimizer.clipvalue",
        "warmstart.model": "pretrained weights loadweights warmstart initweights",
        "checkpoint.every_steps": "saveevery savesteps savefreq",
    }
)
"""From a normalized option of another framework to the path of the equivalent parameter."""

VALUES: Final = {"schedule": "learning_rate.lr"}
"""From a component kind to the parameter that a number in place of a name probably means."""

NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "callback": {
        "earlystopping": "Write --early_stopping.n_to_go 5 to stop after 5 epochs without improvement.",
        "modelcheckpoint": "Every run keeps the best model and checkpoints; --checkpoint.keep sets their number.",
        "backupandrestore": "Every run writes checkpoints. Resume it with aip resume DIR.",
        "tensorboard": "Every run writes TensorBoard events. Show them with tensorboard --logdir DIR.",
        "csvlogger": "Write --callbacks CSVLog.",
        "reducelronplateau": "Write --callbacks ReduceOnPlateau.",
        "learningratescheduler": "Choose a schedule, such as --learning_rate CosineDecay.",
        "swapemaweights": "Write --trainer.calc_ema 0.99.",
        "remotemonitor": "Write --callbacks Webhook.",
        "progbarlogger": "Every run shows its progress. Turn it off with --quiet.",
        "history": "Every run records its values; --callbacks CSVLog writes them to a file.",
        "lambdacallback": "Write a callback plugin: aip plugins new callback NAME.",
        "wandblogger": "Write --callbacks WandB.",
        "mlflowlogger": "Write --callbacks MLflow.",
    },
    "exporter": {
        **dict.fromkeys(("tflite", "lite", "tensorflowlite"), "Use LiteRT, the new name of TensorFlow Lite."),
        **dict.fromkeys(("h5", "hdf5", ".keras", "kerasv3"), "Write Keras, which writes model.keras."),
        **dict.fromkeys(("pb", "tf", "tensorflow", "savedmodels"), "Write SavedModel."),
        **dict.fromkeys(("onnxruntime", ".onnx"), "Write ONNX."),
    },
    "schedule": {
        **dict.fromkeys(("reducelronplateau", "reduceonplateau"), "Write --callbacks ReduceOnPlateau."),
        **dict.fromkeys(("none", "fixed"), "Write Constant."),
        **dict.fromkeys(("exponential", "steplr", "step"), "Write ExponentialDecay."),
        **dict.fromkeys(("cosine", "cosineannealing"), "Write CosineDecay."),
        **dict.fromkeys(("warmup", "linear"), "Write WarmupCosineDecay."),
    },
}
"""From a component kind and a normalized name to the replacement."""


PLUGIN_KINDS: Final = ("optimizer", "schedule", "callback", "exporter")
"""The component kinds that plugins provide."""


def meant_option(name: str) -> str | None:
    """Return the path of the parameter that an unknown option means, or None."""
    return OPTIONS.get(".".join(normalize(part) for part in name.split(".")))


def of_tfaip(option: str) -> str | None:
    """Return a sentence on an option of tfaip that aip renamed or does not have; None for other options."""
    *groups, name = option.split(".")
    # Generated from the tables in docs/coming-from-tfaip.md.
    rows = json.loads(files("aipcore.params").joinpath("tfaip.json").read_text(encoding="utf-8")).get(name, [])
    classes = {f"{normalize(group)}{end}" for group in groups for end in ("params", "configparams")}
    classes |= {"datapipelineparams"} if {"train", "val", "lav"} & set(groups) else set()
    fitting = [row for row in rows if normalize(row[0]) in classes]
    # A short name such as `files` is ambiguous.
    if not fitting and "_" in name:
        fitting = rows
    if not fitting:
        return None
    _, meant, note = fitting[0]
    return f"tfaip's {name} {f'is {meant}' if meant else 'has no equivalent'} in aip{f' ({note})' if note else ''}."


def meant_name(kind: str, name: str, known: Sequence[str]) -> str | None:
    """Return the replacement for an unknown component name, or None."""
    shown = {normalize(each): each for each in known}
    if normalize(name) in shown:
        return None
    if kind in VALUES and _is_number(name):
        return f"Write --{VALUES[kind]} {name}."
    names = NAMES.get(kind, {})
    last = re.split(r"[.:]", name)[-1]
    if (hint := names.get(normalize(name), names.get(normalize(last)))) is not None or last == name:
        return hint
    if normalize(last) in shown:
        return f"Write {shown[normalize(last)]}."
    if kind not in PLUGIN_KINDS or not last.isidentifier():
        return None
    return f"Write a plugin whose build returns it: aip plugins new {kind} {last}."


def split_words(words: Sequence[str], is_allowed: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """Split words like `64,64` or `[64, 64]` into single values, if these would be allowed."""
    text = " ".join(words)
    parts = [part for part in re.split(r"[\s,;]+", text.strip("[](){} ")) if part]
    return parts if parts != list(words) and is_allowed(parts) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def refuse_commas(leaf: Leaf, option: Option, words: Sequence[str]) -> None:
    """Refuse several values in one word that would be allowed as separate words."""
    if (
        leaf.type.form != "one"
        and not _is_of(leaf.type, words)
        and ((split := split_words(words, lambda parts: _is_of(leaf.type, parts))) is not None)
    ):
        raise ParamsError(f"{option.written}: separate values with spaces: {option.written} {' '.join(split)}.")


def _is_of(kind: LeafType, words: Sequence[str]) -> bool:
    try:
        kind.from_words(words)
    except NotAllowedError:
        return False
    return True


def refuse_foreign(node: Component, written: str, name: str) -> None:
    """Refuse a name from another framework, with its replacement."""
    if (hint := meant_name(node.kind, name, node.names)) is not None:
        raise ParamsError(f"{written}: there is no {node.kind} {name!r}. {hint}")


def unknown(
    name: str, where: str, tree: Group, *, option: Option | None = None, siblings: Sequence[str] = ()
) -> ParamsError:
    """Return the error for an unknown parameter.

    Args:
        name: dotted name.
        where: the name as typed.
        tree: tree of the parameters.
        option: the option, if it is from the command line.
        siblings: existing names in the same mapping of a file.
    """
    if elsewhere := owners(tree, name):
        node = elsewhere[0][0]
        choices = [choice for owner, choice in elsewhere if owner is node]
        names = one_of(choices)
        switch = shown(node.path, tree.shorts)
        if node.spec.repeat:
            return ParamsError(_of_another(node, name, where, choices, switch))
        add = f"Write {switch}: {names}" if option is None else f"Add --{switch} {names}"
        if node.several:
            return ParamsError(f"{where} belongs to {names}, which is not selected. {add}.")
        chosen = f"the {node.path[-1].replace('_', ' ')} is {node}"
        return ParamsError(f"{where} belongs to {names}, but {chosen}. {add}, or leave the option out.")
    dashes = "" if option is None else "--"
    start = f"{where} is unknown" if option is None else f"There is no option {where}"
    meant = meant_option(name)
    if meant is not None and meant != name:
        if isinstance(find(tree, meant), Leaf):
            return ParamsError(f"{start}; did you mean {_with_words(f'{dashes}{meant}', option)}?")
        if owners(tree, meant):
            return ParamsError(f"{start}. {unknown(meant, f'{dashes}{meant}', tree, option=option)}")
    if (hint := of_tfaip(name)) is not None:
        return ParamsError(f"{start}. {hint}")
    near = nearest(name.rpartition(".")[2], siblings) or nearest(name, all_names(tree))
    if near:
        return ParamsError(f"{start}; did you mean {one_of(dashes + each for each in near)}?")
    if option is None and not siblings:
        return ParamsError(f"{start}. {name.rpartition('.')[0]} has no parameters.")
    return ParamsError(f"{start}; {'--help all lists all options' if option else f'choose {one_of(siblings)}'}.")


def _of_another(node: Component, name: str, where: str, choices: Sequence[str], switch: str) -> str:
    """Return the sentence for an option that only other ones of repeatable components have.

    Args:
        node: the components.
        name: dotted name of the option.
        where: the name as typed.
        choices: the components that have the option.
        switch: displayed name of the parameter that selects the components.
    """
    at, _, last = name.removeprefix(f"{'.'.join(node.path)}.").removeprefix(f"{switch}.").partition(".")
    group, names = node.child(at), one_of(choices)
    assert isinstance(group, Group)
    switch = f"--{switch}" if where.startswith("--") else switch
    others = [f"{switch}.{number}.{last}" for number, each in node.chosen.items() if each.choice in choices]
    way = f"Write {one_of(others)}" if others else f"Add {names} to {switch}"
    here = f"{'.'.join(group.path)} is {group.choice}"
    return f"{where} belongs to {names}, but {here}. {way}, or leave the option out."


def no_component(node: Component, name: str, tree: Group) -> str:
    """Return the sentence for a number or name that selects none of the repeatable components, or several of them."""
    switch = shown(node.path, tree.shorts)
    alike = [number for number, each in node.chosen.items() if normalize(each.choice) == normalize(name)]
    if alike:
        return f"{switch} has {len(alike)} components {name}. Give a number: {one_of(f'{switch}.{n}' for n in alike)}."
    listed = ", ".join(f"{number} {each.choice}" for number, each in node.chosen.items())
    return f"{switch} has no component {name}. Its components are: {listed or 'none'}."


def not_an_option(option: Option, group: Group, tree: Group) -> ParamsError:
    """Return the error for a group of options that was given a value."""
    start = f"{option.written} is a group of options"
    if (meant := meant_option(option.name)) is not None and isinstance(find(tree, meant), Leaf):
        return ParamsError(f"{start}; did you mean {_with_words(f'--{meant}', option)}?")
    inside = [f"--{shown(leaf.path, tree.shorts)}" for leaf in leaves(group)]
    some = ", ".join(inside[:3]) + (f" and others; --help {option.name} lists them" if len(inside) > 3 else "")
    return ParamsError(f"{start}, not an option. It contains {some or 'none'}.")


def _with_words(name: str, option: Option | None) -> str:
    return " ".join([name, *(() if option is None else option.words)])


def all_names(tree: Group) -> list[str]:
    """Return the dotted names and aliases of all options."""
    nodes = [node for node in walk(tree) if not isinstance(node, Group)]
    names = [shown(node.path, tree.shorts) for node in nodes]
    return names + [name for node in nodes if isinstance(node, Leaf) for name in also(node, tree.shorts)]
