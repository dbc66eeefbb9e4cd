"""`aip ocr-import`: a model of Calamari 2 as a model of aip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from aip_plugin_ocr.calamari.checkpoint import CalamariModel, ordered_weights, read_model
from aipcore.errors import UsageError


@click.command("ocr-import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def command(checkpoint: Path, output: Path) -> None:
    """Import a model of Calamari 2.

    CHECKPOINT is NAME.ckpt: the folder or .h5 file with the weights, beside NAME.ckpt.json. OUTPUT is a new run folder.
    aip predict OUTPUT reads lines, and --warmstart.model OUTPUT starts a training with the weights.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} already exists. Name a new or an empty folder.")
    model = read_model(checkpoint)
    try:
        import_model(model, output)
    except BaseException:
        # It was new or empty.
        shutil.rmtree(output, ignore_errors=True)
        raise
    click.echo(
        f"Imported {model.weights} to {output}: {len(model.data['alphabet'])} characters, {model.layers}.\n"
        f"Read lines with: aip predict {output} --data.files FILES\n"
        f"Fine-tune it with: aip train ocr --params {output / 'calamari.json'} --warmstart.model {output} "
        "--train.lists LIST --val.lists LIST"
    )


def import_model(model: CalamariModel, output: Path) -> None:
    """Write a run folder that contains the model, without training it.

    Raises:
        UsageError: the weights cannot be read, or do not fit the description.
    """
    # The first import: it holds back the notices of TensorFlow.
    from aipcore import Trainer  # isort: skip
    from aipcore.prediction import read_variables

    arrays = ordered_weights(read_variables(model.weights), model)
    data = {**model.data, "text_rules": str(output / "text-rules.yaml")}
    params = {"data": data, "model": {"layers": model.layers}}
    own = {"lists": [str(_write_files(model, params, output))]}
    trainer = {"tune": "off", "skip_sanity_check": True, "export_best": False}
    run = Trainer.from_scenario("ocr", {**params, "train": own, "trainer": trainer}, output, quiet=True)
    variables = run.model.weights
    shapes = [tuple(each.shape) for each in variables], [each.shape for each in arrays]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"{model.weights} does not fit its description: the weights have the shapes {shapes[1]} instead of "
            f"{shapes[0]}. Use the .json file beside the model."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    # A stopped run only writes its model.
    run.state.stopped = "The model was imported"
    run.fit()


def _write_files(model: CalamariModel, params: dict[str, object], output: Path) -> Path:
    """Write the parameters, the rules for texts, and a folder of lines, which is returned.

    The lines show the form of the data: they differ in width, so that the model accepts any width.
    """
    import numpy as np
    from PIL import Image

    lines = output / "lines"
    text = next(each for each in model.data["alphabet"] if not each.isspace())
    try:
        lines.mkdir(parents=True)
        (output / "calamari.json").write_text(json.dumps(params, indent=1), encoding="utf-8")
        # JSON is YAML.
        (output / "text-rules.yaml").write_text(json.dumps(model.rules) + "\n", encoding="utf-8")
        for width in (64, 96):
            ink = np.full((model.data["height"], width), 255, np.uint8)
            ink[10:-10, 16:-16] = 0
            Image.fromarray(ink).save(lines / f"{width}.png")
            (lines / f"{width}.gt.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written ({error.strerror}). Name another folder.") from error
    return lines
