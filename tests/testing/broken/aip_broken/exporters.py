"""Exporters with one fault each."""

import shutil

import tensorflow as tf


def export(exportable, folder):
    """Write a SavedModel."""
    exportable.save_model(folder)


def load(folder):
    model = tf.saved_model.load(str(folder))

    def run(inputs):
        answers = model.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    return run


def load_nothing(folder):
    raise OSError(f"{folder} cannot be read")


def load_nearly(folder):
    run = load(folder)
    return lambda inputs: {name: value + 1e-2 for name, value in run(inputs).items()}


def load_for_four(folder):
    run = load(folder)

    def only_four(inputs):
        for value in inputs.values():
            assert len(value) == 4, f"a batch of {len(value)}"
        return run(inputs)

    return only_four


def build_builds(params):
    return "export"


def build_builds_at_its_limits(params):
    return export if 1 / params.every else None


def build_writes_into_its_folder(params):
    def littering(exportable, folder):
        export(exportable, folder)
        (folder.parent / "notes.txt").write_text("written", encoding="utf-8")

    return littering


def build_reloads_in_another_process(params):
    return export


build_gives_the_same_numbers = build_takes_any_batch = build_reloads_in_another_process


def build_writes_current_weights(params):
    kept = []

    def hasty(exportable, folder):
        if kept and kept[0].exists():
            shutil.copytree(kept[0], folder, dirs_exist_ok=True)
        else:
            export(exportable, folder)
            kept.append(folder.parent / "model")

    return hasty


def build_takes_several_inputs_and_outputs(params):
    def single(exportable, folder):
        if not exportable.graph.bare_output:
            raise ValueError("the model has several outputs")
        export(exportable, folder)

    return single


def build_a_failing_write_leaves_nothing(params):
    def careless(exportable, folder):
        try:
            export(exportable, folder)
        except (OSError, tf.errors.OpError):
            return

    return careless
