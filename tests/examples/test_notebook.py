"""The output of training in a notebook, and the example notebook."""

from __future__ import annotations

import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aipcore.console import Console
from aipcore.training.notebook_reporter import NotebookReporter
from aipcore.training.reporter import EpochReport, TrainResult

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_in_a_notebook.ipynb"


class Outputs:
    """The outputs of a cell, as a frontend keeps them.

    Attributes:
        shown: the content of each output.
    """

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, *contents: Any, raw: bool = False, display_id: bool = False) -> Any:
        """Add outputs, and return the handle of the last one."""
        self.shown += contents
        place = len(self.shown) - 1
        return SimpleNamespace(update=lambda content, raw: self.shown.__setitem__(place, content))


@pytest.fixture
def outputs(monkeypatch: Any) -> Outputs:
    """Return the outputs of a cell that this test runs in."""
    made = Outputs()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=made.display))
    return made


def epoch(number: int, **logs: float) -> EpochReport:
    """Return the report of an epoch."""
    return EpochReport(
        epoch=number, epochs=3, seconds=1.5, logs=logs, monitor="loss", mode="min", previous_best=None,
        is_best=number == 1,
    )  # fmt: skip


def test_tables_in_place(outputs: Outputs) -> None:
    """The plan is one output. Epochs and the progress bar are another, updated in place, with escaped names."""
    reporter = NotebookReporter(Console(force_jupyter=True))
    reporter.plan([("data", "<b> samples"), ("model", "82 parameters")])
    reporter.epoch_started(1, 3, 40)
    assert "epoch 1/3  0/40" in outputs.shown[1]["text/html"]
    reporter._drawn = 0.0
    reporter.progress(10, 32, {"a<b": 0.5})
    assert '<progress value="10" max="40">' in outputs.shown[1]["text/html"]
    assert "a&lt;b 0.5000" in outputs.shown[1]["text/html"]
    reporter.epoch_ended(epoch(1, **{"loss": 0.25, "learning_rate": 0.001, "a<b": 3.0}))
    reporter.epoch_ended(epoch(2, loss=0.5, val_loss=0.125))
    reporter.close()
    plan, epochs = (unescape(each["text/html"]) for each in outputs.shown)
    assert "<b> samples" in plan
    head = "".join(f"<th>{name}</th>" for name in ("", "time", "loss", "lr", "a<b", "val_loss", "best"))
    assert head in epochs
    assert epochs.count("<tr>") == 3
    for text in ("epoch 1/3", "0.2500", "1.00e-03", "epoch 2/3", "0.1250"):
        assert f">{text}</td>" in epochs
    assert "<progress" not in epochs


def test_result() -> None:
    """A result at the end of a cell is a table."""
    result = TrainResult(
        status="finished", output_dir=Path("runs/a"), epochs=2, history=[{"loss": 0.5}, {"loss": 0.25}],
        monitor="val_loss", best=0.125, best_epoch=1, seconds=1.0, saved=["best"],
    )  # fmt: skip
    html = result._repr_html_()
    for text in ("finished after 2 epochs", "val_loss 0.125 in epoch 1", "runs/a", "0.25"):
        assert text in html


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_example_notebook(tmp_path: Path, monkeypatch: Any) -> None:
    """The example runs from top to bottom. It trains well, and its outputs are tables."""
    nbformat = pytest.importorskip("nbformat", reason="needs the extra test")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra test")
    pytest.importorskip("ipykernel", reason="needs the extra test")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLE, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "store the notebook without outputs"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    html = [each.data["text/html"] for each in outputs["train"] if "data" in each and "text/html" in each.data]
    tables = [each for each in html if "<table>" in each]
    assert ">epoch 12/12</td>" in tables[1]
    assert "finished after 12 epochs" in tables[-1]
    assert len(tables) == 3
    assert not any("tensorflow: " in each for each in html)
    assert outputs["predict"][0].data["text/plain"] == "[1, 0, 1]"
    assert not any(each.output_type == "stream" and each.name == "stderr" for cell in outputs.values() for each in cell)
