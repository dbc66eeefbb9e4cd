"""The HPARAMS tab of TensorBoard for the folder of a sweep."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from aip_plugins.commands.sweep.dimension import Dimension
from aip_plugins.commands.sweep.hparams import write_experiment, write_session
from aip_plugins.commands.sweep.results import Row

from aipcore.training.tensorboard.events import EventWriter

DIMENSIONS = [
    Dimension(name="optimizer.epsilon", text="optimizer.epsilon=log:1e-9..1e-5", kind="float", low=1e-9, high=1e-5),
    Dimension(name="optimizer", text="optimizer=adam,lion", kind="component", choices=("Adam", "Lion")),
]


@pytest.mark.slow
def test_hparams_tab(tensorboard: Any, tmp_path: Any) -> None:
    """The tab shows each trial with its parameters, its best value, and the last point of the curves."""
    for number, value in enumerate((0.25, 0.75)):
        folder = tmp_path / f"trial-{number:04d}"
        events = EventWriter(folder / "tensorboard")
        for part in ("train", "validation"):
            events.write(part, 1, {"loss": value + 1})
        events.close()
        row = Row(
            trial=number, state="complete", value=value, epoch=1, seconds=1.0, reason="", folder=str(folder),
            params={"optimizer": "Lion", "optimizer.epsilon": 1e-7}, logs={"val_accuracy": value},
        )  # fmt: skip
        write_experiment(tmp_path, DIMENSIONS, "max", "val_accuracy")
        write_session(folder, row, DIMENSIONS, "val_accuracy")
    metric = {"group": "", "tag": "best/val_accuracy"}
    with tensorboard(tmp_path) as address:
        experiment = _wait(address, "experiment", {"experimentName": ""}, "hparamInfos", 2)
        assert {info["name"] for info in experiment["hparamInfos"]} == {"optimizer", "optimizer.epsilon"}
        assert metric in [info["name"] for info in experiment["metricInfos"]]
        asked = {
            "experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10,
            "colParams": [{"metric": metric, "order": "ORDER_DESC"}],
        }  # fmt: skip
        groups = _wait(address, "session_groups", asked, "sessionGroups", 2)["sessionGroups"]
    assert [group["name"] for group in groups] == ["trial 1", "trial 0"]
    assert groups[0]["hparams"] == {"optimizer": "Lion", "optimizer.epsilon": 1e-7}
    values = {(each["name"]["group"], each["name"]["tag"]): each["value"] for each in groups[0]["metricValues"]}
    assert values == {
        ("", "best/val_accuracy"): 0.75,
        ("tensorboard/train", "loss"): 1.75,
        ("tensorboard/validation", "loss"): 1.75,
    }


@pytest.mark.slow
def test_tab_of_single_runs(tensorboard: Any, make_trainer: Any, blobs_class: Any, tmp_path: Any) -> None:
    """Runs with the callback `HParams` are rows of the tab, with their parameters, best values and last values."""
    (tmp_path / "runs").mkdir()
    results = {}
    for rate in (0.01, 0.1):
        name = f"runs/{rate}"
        trainer = make_trainer(
            blobs_class, "--callbacks", "HParams", "--learning_rate.lr", str(rate), output=name, exports=False,
            about={"params": {"trainer": {"learning_rate": {"lr": rate}, "epochs": 2}}},
        )  # fmt: skip
        results[str(rate)] = trainer.fit()
    with tensorboard(tmp_path / "runs") as address:
        experiment = _wait(address, "experiment", {"experimentName": ""}, "hparamInfos", 2)
        differ = {info["name"]: info["differs"] for info in experiment["hparamInfos"]}
        assert differ == {"trainer.learning_rate.lr": True, "trainer.epochs": False}
        columns = [{"metric": info["name"]} for info in experiment["metricInfos"]]
        asked = {
            "experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10,
            "colParams": columns,
        }  # fmt: skip
        groups = _wait(address, "session_groups", asked, "sessionGroups", 2)["sessionGroups"]
    assert {group["name"]: group["hparams"]["trainer.learning_rate.lr"] for group in groups} == {
        "0.01": 0.01,
        "0.1": 0.1,
    }
    for group in groups:
        result = results[group["name"]]
        values = {(each["name"]["group"], each["name"]["tag"]): each["value"] for each in group["metricValues"]}
        assert values["", f"best/{result.monitor}"] == pytest.approx(result.best)
        assert values["train", "loss"] == pytest.approx(result.history[-1]["loss"])
        assert values["validation", "loss"] == pytest.approx(result.history[-1]["val_loss"])


def _wait(address: str, what: str, body: dict[str, Any], key: str, count: int) -> Any:
    """Poll until TensorBoard has read all files."""
    answer: Any = None
    for _ in range(120):
        request = urllib.request.Request(
            f"{address}/data/plugin/hparams/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
            if len(answer.get(key, [])) == count:
                return answer
        except urllib.error.HTTPError as error:
            answer = error
        time.sleep(0.5)
    pytest.fail(f"TensorBoard answered {answer}")
