"""The table of training speed, and the page of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of the benchmarks importable."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(("theirs", "verdict"), [([2.0, 9.0, 2.2], "met"), ([0.9, 0.9, 5.0], "NOT met")])
@pytest.mark.usefixtures("on_path")
def test_verdict(theirs: list[float], verdict: str) -> None:
    """The fastest peer decides, by the median of the ratios of the same rounds; loops by hand do not count."""
    import training_speed as speed

    def peer(name: str, seconds: list[float]) -> Any:
        return speed.Peer(name, speed.Worker("mlp"), seconds=seconds)

    ours = peer("aip", [1.0, 1.0, 1.0])
    peers = [ours, peer("Model.fit", [4.0]), peer("PyTorch", theirs), peer("by hand, XLA", [0.1, 0.1, 0.1])]
    cells = [cell.strip() for cell in speed.line(speed.result("mlp", "MLP", 10, peers)).split("|")]
    assert cells[3:7] == ["100", "PyTorch", f"{sorted(theirs)[1]:.2f}", "█" * round(5 * sorted(theirs)[1])]
    assert cells[7:10] == [verdict, "4.00", "4.00"]


@pytest.mark.usefixtures("on_path")
def test_tasks_name_known_peers() -> None:
    """Each row leaves out known peers only, and never aip."""
    from engine.models import GROUPS, all_tasks

    names = {name for group in GROUPS for name in group} - {"aip"}
    assert all(names.issuperset(task.without) for task in all_tasks().values())


@pytest.mark.usefixtures("on_path")
def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark replaces its own section. Other sections stay, and hand-written ones come last."""
    import report

    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nStart.\n\n## On a GPU\n\nBy hand.\n\n## Startup\n\nOld.\n", "utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    named = {each.script: each for each in report.BENCHMARKS}
    report.write(named["startup"], "12 ms")
    report.write(named["training_speed"], "head\n\n| row |\n|---|\n| mlp |")
    text = page.read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Benchmarks",
        "## Training",
        "## Startup",
        "## On a GPU",
    ]
    assert text.endswith("## On a GPU\n\nBy hand.\n")
    assert "Old" not in text
    assert "```text\n12 ms\n```" in text
