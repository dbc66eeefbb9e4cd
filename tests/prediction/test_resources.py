"""Files that parameters name: checked first, copied into run and model, and found there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aipcore.cli.main import main
from aipcore.errors import ParamsError
from aipcore.params import field, group, params
from aipcore.params.resources import check_resources, copy_resources, localized, planned_copies
from aipcore.prediction import Predictor


@params
class Inner:
    """Files."""

    one: Path | None = field(None, help="One.", resource=True)
    many: tuple[Path, ...] = field((), help="Many.", resource=True)
    plain: Path | None = field(None, help="No resource.")


@params
class Outer:
    """A group with files."""

    data: Inner = group(Inner, help="Files.")


def test_files_of_one_name_do_not_collide(tmp_path: Path) -> None:
    """Each file gets a separate copy, also on case-insensitive systems; a file that is named twice has one."""
    files = [tmp_path / name for name in ("a/codec.txt", "b/codec.txt", "c/CODEC.txt")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(str(number))
    value = Outer(data=Inner(one=files[0], many=(files[1], files[0], files[2]), plain=files[1]))
    check_resources(value)
    copies, sources = planned_copies(value)
    assert copies == {
        "data.one": "resources/codec.txt",
        "data.many": ["resources/codec-2.txt", "resources/codec.txt", "resources/CODEC-3.txt"],
    }
    copy_resources(sources, tmp_path / "model")
    texts = [(tmp_path / "model" / place).read_text() for place in copies["data.many"]]
    assert texts == ["1", "0", "2"]
    found = localized({"data": {"one": "x", "many": ["x"], "plain": "p"}}, copies, tmp_path / "model")
    assert found["data"]["one"] == str(tmp_path / "model" / "resources" / "codec.txt")
    assert found["data"]["plain"] == "p"


def test_missing_file_is_told_before_anything_is_written(
    dense_source: str, tmp_path: Path, capsys: Any, refused: Any
) -> None:
    """The error names the option."""
    (tmp_path / "s.py").write_text(dense_source)
    words = ["--trainer.output_dir", str(tmp_path / "out"), "--data.words", str(tmp_path / "none.txt")]
    assert main(["train", str(tmp_path / "s.py"), *words]) == 2
    assert f"--data.words {tmp_path / 'none.txt'} is not a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with refused(ParamsError):
        check_resources(Outer(data=Inner(one=tmp_path)))


def test_run_and_models_have_copies(points: Any, words_file: Path) -> None:
    """The run keeps the original path in its parameters; run, best and export each have the file."""
    assert json.loads((points.folder / "params.json").read_text())["data"]["words"] == str(words_file)
    assert json.loads((points.folder / "run.json").read_text())["resources"] == {"data.words": "resources/words.txt"}
    for folder in (points.folder, points.folder / "best", points.folder / "export"):
        assert (folder / "resources" / "words.txt").read_text() == words_file.read_text()


def test_a_copy_can_take_the_name_of_another(tmp_path: Path) -> None:
    """If a run is resumed with another file of the same name, each copy has the content that its parameter named."""
    home = tmp_path / "home"
    (home / "resources").mkdir(parents=True)
    old, new = home / "resources" / "a.txt", tmp_path / "a.txt"
    old.write_text("old")
    new.write_text("new")
    copies, sources = planned_copies(Outer(data=Inner(one=new, many=(old,))))
    assert copies == {"data.one": "resources/a.txt", "data.many": ["resources/a-2.txt"]}
    copy_resources(sources, home)
    assert sorted((path.name, path.read_text()) for path in (home / "resources").iterdir()) == [
        ("a-2.txt", "old"),
        ("a.txt", "new"),
    ]
    copies, sources = planned_copies(Outer(data=Inner(one=old)))
    copy_resources(sources, home)
    assert old.read_text() == "new"


def test_resumed_run_takes_another_file(points: Any, tmp_path: Path) -> None:
    """After a resume with another file, the folders of the run and of its models have that file."""
    folder = tmp_path / "out"
    shutil.copytree(points.folder, folder)
    (tmp_path / "words.txt").write_text("n e s w")
    words = ["--data.words", str(tmp_path / "words.txt"), "--trainer.epochs", str(len(points.history) + 1)]
    assert main(["resume", str(folder), "--trust", "--quiet", *words]) == 0
    for home in (folder, folder / "export"):
        assert (home / "resources" / "words.txt").read_text() == "n e s w"


def test_checkpoint_finds_those_of_the_run(points: Any) -> None:
    """A checkpoint has no copies and uses those of the run."""
    predictor = Predictor.load(points.folder / "checkpoint", trust=True)
    assert predictor.scenario.params.data.words == points.folder / "resources" / "words.txt"


def test_lav_takes_another_file(points: Any, lav: Any, tmp_path: Path) -> None:
    """A parameter on the command line takes precedence over the copy."""
    other = tmp_path / "other.txt"
    other.write_text("n e s w")
    lav(str(points.folder), "--data.words", str(other))
