"""`aip ocr-train`: training with augmentation, then without it, from the best weights of the first stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from aipcore.errors import UsageError

RECORDS = ("run.json", "params.json")
"""The files of a run that has begun."""

REFUSED = ("trainer.export_best", "trainer.write_checkpoints", "trainer.fold", "data.augment", "json_log")
"""Options of aip train that the command sets, or that would stop the second stage."""


@click.command(
    "ocr-train", context_settings={"ignore_unknown_options": True}, options_metavar="[PARAMETERS of aip train ocr]"
)
@click.option(
    "--trainer.output_dir",
    "--trainer.output-dir",
    "output_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of both stages. By default, a new runs/ocr-stages-N.",
)
@click.option("--resume", metavar="DIR", type=click.Path(path_type=Path), help="Resume the stages of a folder.")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def command(
    context: click.Context, output_dir: Path | None, resume: Path | None, quiet: bool, words: tuple[str, ...]
) -> None:
    """Train text recognition in two stages.

    Stage 1 trains with augmentation. Stage 2 trains without it. It begins with the best weights of stage 1, a new
    optimizer and new early stopping. The stages are the runs DIR/stage-1 and DIR/stage-2. With --trainer.folds, they
    are cross-validations, and each fold begins with the weights of the same fold.

    The other options are those of aip train ocr, for both stages. aip train ocr --help lists them. With
    --trainer.scale_epoch_size N, stage 1 trains on N distorted copies of each line per epoch.
    """
    if resume is not None and (words or output_dir):
        raise UsageError("--resume takes the parameters from its folder. Leave out the other options.")
    for word in words:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in REFUSED:
            raise UsageError(f"{word.partition('=')[0]} cannot be given for two stages. Leave it out.")
    folder = resume or output_dir or _new_folder()
    first, second = folder / "stage-1", folder / "stage-2"
    if resume is None and (first.exists() or second.exists()):
        raise UsageError(f"{folder} already has stages. Resume them with aip ocr-train --resume {folder}.")
    if resume is not None:
        _check_stages(folder, first, second)
    try:
        if _begun(second):
            _run(context, "resume", second, quiet=quiet)
        else:
            if resume is None:
                fixed = ("--data.augment", "True", "--trainer.output_dir", first)
                _run(context, "train", "ocr", *words, *fixed, quiet=quiet)
            else:
                _run(context, "resume", first, quiet=quiet)
            # A kill at the start of stage 2 leaves a folder without a run.
            shutil.rmtree(second, ignore_errors=True)
            file = folder / "stage-2.json"
            file.write_text(json.dumps(second_params(first, second), indent=2) + "\n", encoding="utf-8")
            _run(context, "train", "ocr", "--params", file, quiet=quiet)
    except (SystemExit, KeyboardInterrupt):
        if _begun(first):
            click.echo(f"Resume both stages with: aip ocr-train --resume {folder}", err=True)
        raise


def _check_stages(folder: Path, first: Path, second: Path) -> None:
    """Refuse to resume a folder without stages, or elsewhere than stage 1, whose files may be relative."""
    if not _begun(first):
        raise UsageError(f"{folder} has no stages to resume: {first} is not a run folder.")
    begun_in = json.loads((first / "run.json").read_text(encoding="utf-8"))["working_dir"]
    if not _begun(second) and Path(begun_in) != Path.cwd():
        raise UsageError(f"The stages were begun in {begun_in}. Resume them there, until stage 2 has begun.")


def second_params(first: Path, second: Path) -> dict[str, Any]:
    """Return the parameters of stage 2, from those that are recorded in the folder of stage 1."""
    params: dict[str, Any] = json.loads((first / "params.json").read_text(encoding="utf-8"))
    seed = json.loads((first / "run.json").read_text(encoding="utf-8"))["seed"]
    trainer = params["trainer"]
    best = first if trainer.get("folds") is not None else first / "best"
    trainer |= {"output_dir": str(second), "random_seed": seed, "warmstart": {"model": str(best)}}
    trainer["scale_epoch_size"] = min(1, trainer["scale_epoch_size"])
    return {**params, "data": {**params["data"], "augment": False}}


def _run(context: click.Context, command: str, *words: str | Path, quiet: bool) -> None:
    """Run a command of aip in this process."""
    parent: Any = context.parent
    if parent is None:
        raise UsageError("ocr-train runs other commands of aip. Run it as aip ocr-train.")
    found = parent.command.get_command(parent, command)
    with found.make_context(command, [*map(str, words), *(["--quiet"] if quiet else [])], parent=parent) as inner:
        found.invoke(inner)


def _begun(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RECORDS)


def _new_folder() -> Path:
    number = 1
    while (folder := Path("runs") / f"ocr-stages-{number}").exists():
        number += 1
    return folder
