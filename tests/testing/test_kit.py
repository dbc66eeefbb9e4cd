"""The conformance kit: a plugin with one fault fails the corresponding check."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aipcore.errors import PluginError
from aipcore.hooks.discovery import KINDS, Switches
from aipcore.hooks.manager import PluginManager
from aipcore.scenario import Scenario
from aipcore.testing import all_checks, run_checks
from aipcore.testing.declaration import Declaration
from aipcore.testing.processes import Processes
from aipcore.testing.registry import checks_of
from aipcore.testing.runner import declaration, find_entries, run_check

BROKEN = Path(__file__).parent / "broken"


def faults() -> list[tuple[str, str]]:
    """Return kind and name of each broken plugin; the name is that of the check that it fails."""
    sys.path.insert(0, str(BROKEN))
    try:
        module = importlib.import_module("aip_broken")
    finally:
        sys.path.remove(str(BROKEN))
    return [(kind, record.name) for kind in KINDS for record in getattr(module, f"aip_{kind}s")()]


FAULTS = faults()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginManager]:
    """Yield all plugins, with the broken ones installed."""
    info = tmp_path_factory.mktemp("site") / "aip_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aip-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aip]\nbroken = aip_broken\n")
    added = [str(info.parent), str(BROKEN)]
    sys.path[:0] = added
    importlib.invalidate_caches()
    yield PluginManager(Switches(only=("aip-broken",)))
    for path in added:
        sys.path.remove(path)


@pytest.fixture(scope="module")
def processes(manager: PluginManager) -> Iterator[Processes]:
    """Yield the processes that all checks here share."""
    with Processes(FAULTS, manager.switches) as made:
        yield made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Discard files that broken plugins write into the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("kind", "name"), FAULTS, ids=lambda value: value)
def test_a_fault_is_found(kind: str, name: str, manager: PluginManager, processes: Processes) -> None:
    """The check that a plugin is named after fails, with a reason."""
    [entry] = find_entries(manager, name, kind)
    [check] = [check for check in checks_of(kind) if check.name == name]
    result = run_check(check, entry, manager, declaration(entry), processes)
    assert result.status == "failed"
    assert len(result.reason) > 15


def test_state_may_hold_arrays(manager: PluginManager, processes: Processes) -> None:
    """The state of a callback may hold NumPy arrays and numbers, as in training."""
    [entry] = find_entries(manager, "writes_into_its_folder", "callback")
    [check] = [check for check in checks_of("callback") if check.name == "keeps_its_state"]
    result = run_check(check, entry, manager, declaration(entry), processes)
    assert result.status == "passed", result.reason


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_the_only_one(kind: str, manager: PluginManager) -> None:
    """No other check of the plugin fails: they pass, do not apply, or need the failed one."""
    entries = [entry for entry in manager.of_kind(kind) if entry.plugin.distribution == "aip-broken"]
    assert entries
    wrong = [
        (result.plugin, result.check, result.reason)
        for result in run_checks(entries, manager=manager)
        if result.is_failure != (result.check == result.plugin)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_every_check_has_a_broken_plugin() -> None:
    """For each check of the kit, a broken plugin fails it."""
    found = {(kind, name) for kind, name in FAULTS}
    for kind, checks in all_checks().items():
        for check in checks:
            # Checks of several kinds are one function: a fault in one kind shows that it works.
            assert any((each, check.name) in found for each in check.kinds), (kind, check.name)


def test_every_check_has_a_sentence() -> None:
    """The docstring of each check is one line, for the list in the documentation."""
    for checks in all_checks().values():
        assert len({check.name for check in checks}) == len(checks)
        for check in checks:
            assert check.summary.endswith(".")
            assert "\n" not in check.summary
            assert set(check.needs) <= {other.name for other in checks}


def test_expected_failures(manager: PluginManager, refused: Any) -> None:
    """An expected failure is reported with its reason, a missing one is a failure, and a misspelt one an error."""
    [entry] = find_entries(manager, "limits_hold")
    given = {"expected_failures": {"limits_hold": "0 means never", "has_a_summary": "no time"}}
    results = {}
    for result in run_checks([entry], manager=manager, declared=given):
        if result.check == "builds":
            break
        results[result.check] = result
    assert (results["limits_hold"].status, results["limits_hold"].reason) == ("expected failure", "0 means never")
    assert results["has_a_summary"].is_failure
    assert results["has_a_summary"].reason == (
        "it passes, but was expected to fail (no time): remove it from expected_failures"
    )
    with refused(PluginError):
        declaration(entry, {"expected_failures": {"limits_holds": "typo"}})
    with refused(PluginError):
        declaration(entry, {"rate": 1})


def test_a_check_that_needs_another_is_skipped(manager: PluginManager) -> None:
    """A plugin that cannot be built is not checked further, and the reason reports it."""
    [entry] = find_entries(manager, "builds", "optimizer")
    results = {result.check: result for result in run_checks([entry], manager=manager)}
    assert results["builds"].is_failure
    assert results["keeps_dtypes"].status == "skipped"
    assert results["keeps_dtypes"].reason == "it needs builds, which did not pass"


class Texts(Scenario):
    """Texts whose model takes word indices."""

    def train_data(self) -> Any:
        return ["good film", "bad film"] * 8, np.float32([[1], [0]] * 8)

    def preprocessing(self) -> Any:
        import keras

        return keras.layers.TextVectorization(output_sequence_length=3)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        return layers.Dense(1, activation="sigmoid")(layers.Flatten()(layers.Embedding(8, 4)(inputs)))

    def losses(self) -> Any:
        return "binary_crossentropy"


@pytest.mark.parametrize("name", ["data_fits_the_model", "exports", "overfits_a_few_samples"])
def test_models_are_checked_after_preprocessing(name: str, manager: PluginManager, tmp_path: Path) -> None:
    """The checks of scenarios build the model for preprocessed inputs, and export it for raw ones."""
    declared = Declaration(samples=4, steps=60, learning_rate=0.05)
    subject: Any = SimpleNamespace(build=Texts, name="texts", manager=manager, declared=declared, folder=tmp_path)
    [check] = [check for check in checks_of("scenario") if check.name == name]
    check.run(subject)
