"""Checks of exporters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipcore.testing.checks.parameters import build_at_limits
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import CheckSkippedError, require
from aipcore.testing.subject import Subject
from aipcore.training.export.requirements import lacking_packages

if TYPE_CHECKING:
    from aipcore.scenario import Scenario
    from aipcore.scenario.model import Graph
    from aipcore.training.export.writer import ModelWriter

MADE = ("parameters_can_be_created",)
BUILT = ("builds",)
WRITES = ("writes_into_its_folder",)
FIRST_BATCH = 4


def _need_packages(subject: Subject) -> None:
    if lacking := lacking_packages(subject.entry.record):
        raise CheckSkippedError(f"it {lacking}")


def _writer(subject: Subject, graph: Graph) -> ModelWriter:
    from aipcore.training.export.formats import Format
    from aipcore.training.export.writer import ModelWriter

    _need_packages(subject)
    return ModelWriter(graph, {subject.name: Format(write=subject.build(subject.params()))}, {})


def _written(subject: Subject) -> tuple[Graph, Path]:
    """Return the model of `Blobs`, and a folder with `here`, the working folder, and the export `place/model`."""
    from aipcore.testing.small import Blobs, small_graph

    def write(folder: Path) -> tuple[Graph, Path]:
        graph = small_graph(Blobs)
        for name in ("here", "place"):
            (folder / name).mkdir()
        with chdir(folder / "here"):
            _writer(subject, graph).write(folder / "place" / "model")
        return graph, folder

    return subject.shared("written", write)


def _read_written(subject: Subject, batches: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the outputs of the export of `Blobs` and those of the model, by `BATCH/OUTPUT`."""
    from aipcore.testing.small import Blobs

    graph, folder = _written(subject)
    found = _read_back(subject, Blobs, folder / "place" / "model", batches)
    return found, _expected(graph, Blobs, batches)


def _read_back(subject: Subject, cls: type[Scenario], folder: Path, batches: Sequence[int]) -> dict[str, Any]:
    """Return the outputs of the exported model by `BATCH/OUTPUT`, computed in another process."""
    import numpy as np

    from aipcore.testing.small import batch_of

    load = getattr(subject.entry.record, "load", None)
    if load is None:
        raise CheckSkippedError("its record has no `load`, so the export cannot be read")
    inputs, outputs = subject.folder / "inputs.npz", subject.folder / "outputs.npz"
    arrays = {f"{batch}/{name}": value for batch in batches for name, value in batch_of(cls, batch).items()}
    np.savez(inputs, **arrays)
    error = subject.processes.read_model(load, folder, inputs, outputs)
    require(not error, f"{load} cannot load or run the export: {error}")
    with np.load(outputs, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def _expected(graph: Graph, cls: type[Scenario], batches: Sequence[int]) -> dict[str, Any]:
    """Return the outputs of the model itself by `BATCH/OUTPUT`."""
    import numpy as np

    from aipcore.testing.small import batch_of

    answers = {}
    for batch in batches:
        inputs = {"" if name == "inputs" else name: value for name, value in batch_of(cls, batch).items()}
        for name, value in graph(inputs, training=False).items():
            answers[f"{batch}/{name or 'outputs'}"] = np.asarray(value)
    return answers


def _compare(subject: Subject, graph: Graph, found: dict[str, Any], expected: dict[str, Any]) -> None:
    from aipcore.training.export.verify import deviation, device_kind, tolerance_for

    tolerance = tolerance_for(graph, subject.declared.tolerance, device_kind())
    for key, value in expected.items():
        batch, _, name = key.partition("/")
        where = f"the output {name} for a batch of {batch}"
        require(key in found, f"{where} is missing")
        require(found[key].shape == value.shape, f"{where} has shape {found[key].shape} instead of {value.shape}")
        error = deviation(value, found[key])
        require(error <= tolerance, f"{where} differs from the model's by {error:.2g}")


@conformance_check("exporter", needs=MADE)
def builds(subject: Subject) -> None:
    """`build` returns a function. This check and all below are skipped if a required package is missing."""
    _need_packages(subject)
    made = subject.build(subject.params())
    require(callable(made), f"build returned {type(made).__name__}: return a function export(exportable, folder)")


@conformance_check("exporter", needs=BUILT)
def builds_at_its_limits(subject: Subject) -> None:
    """`build` accepts every value inside the limits of the parameters, the limits included."""
    _need_packages(subject)
    build_at_limits(subject, subject.build)


@conformance_check("exporter", needs=BUILT)
def writes_into_its_folder(subject: Subject) -> None:
    """The exporter writes into its folder, and neither next to it nor into the working folder."""
    _, folder = _written(subject)
    here, place = folder / "here", folder / "place"
    written = {path.name for path in (place / "model").rglob("*") if path.is_file()} - {"aip.json"}
    require(written, "nothing was written")
    beside = sorted(path.name for each in (here, place) for path in each.iterdir() if path.name != "model")
    require(not beside, f"{', '.join(beside)} was written outside the folder")


@conformance_check("exporter", needs=WRITES)
def reloads_in_another_process(subject: Subject) -> None:
    """Another process loads the export with the record's `load`, and gets each output by name."""
    found, outputs = _read_written(subject, [FIRST_BATCH])
    names, expected = (sorted(key.partition("/")[2] for key in each) for each in (found, outputs))
    require(names == expected, f"the outputs are {', '.join(names)} instead of {', '.join(expected)}")


@conformance_check("exporter", needs=("reloads_in_another_process",))
def gives_the_same_numbers(subject: Subject) -> None:
    """The outputs of the loaded export equal those of the model within `tolerance`."""
    graph, _ = _written(subject)
    _compare(subject, graph, *_read_written(subject, [FIRST_BATCH]))


@conformance_check("exporter", needs=("gives_the_same_numbers",))
def takes_any_batch(subject: Subject) -> None:
    """The loaded export accepts batches of 1 and of 3 samples."""
    graph, _ = _written(subject)
    _compare(subject, graph, *_read_written(subject, [1, 3]))


@conformance_check("exporter", needs=("gives_the_same_numbers",))
def writes_current_weights(subject: Subject) -> None:
    """A second export after a change of the weights, as for `best`, contains the new weights."""
    from aipcore.testing.small import Blobs, small_graph

    graph = small_graph(Blobs)
    writer = _writer(subject, graph)
    writer.write(subject.folder / "model")
    for weight in graph.model.trainable_variables:
        weight.assign(weight * 0.5 + 0.1)
    writer.write(subject.folder / "model")
    found = _read_back(subject, Blobs, subject.folder / "model", [FIRST_BATCH])
    _compare(subject, graph, found, _expected(graph, Blobs, [FIRST_BATCH]))


@conformance_check("exporter", needs=(*WRITES, "gives_the_same_numbers"))
def takes_several_inputs_and_outputs(subject: Subject) -> None:
    """A model with two named inputs, one of integers, and two named outputs is exported, and read back if possible."""
    from aipcore.testing.small import Pairs, small_graph

    graph = small_graph(Pairs)
    _writer(subject, graph).write(subject.folder / "model")
    if getattr(subject.entry.record, "load", None) is not None:
        found = _read_back(subject, Pairs, subject.folder / "model", [FIRST_BATCH])
        _compare(subject, graph, found, _expected(graph, Pairs, [FIRST_BATCH]))


@conformance_check("exporter", needs=WRITES)
def a_failing_write_leaves_nothing(subject: Subject) -> None:
    """On a full disk the exporter raises an error. The previous model is kept, and no partial export is left."""
    from aipcore.errors import TrainingError
    from aipcore.testing.small import Blobs, small_graph
    from aipcore.training.export.formats import Format
    from aipcore.training.export.writer import ModelWriter

    _need_packages(subject)
    graph = small_graph(Blobs)
    place = subject.folder / "place"
    place.mkdir()
    export = subject.build(subject.params())
    full: list[bool] = []

    def limited(exportable: Any, folder: Path) -> None:
        # Only the exporter runs out of space: aip's own files would fail too.
        with _no_room() if full else nullcontext():
            export(exportable, folder)

    writer = ModelWriter(graph, {subject.name: Format(write=limited)}, {})
    writer.write(place / "model")
    before = _contents(place)
    for weight in graph.model.trainable_variables:
        weight.assign(weight + 1)
    try:
        full.append(True)
        writer.write(place / "model")
    except (TrainingError, OSError):
        pass
    else:
        raise AssertionError("a file of more than 64 bytes could not be written, but no error was raised")
    after = _contents(place)
    require(after == before, f"the previous files have changed: {', '.join(sorted(after.keys() ^ before.keys()))}")


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _no_room() -> Iterator[None]:
    """Prevent all files of this process from growing beyond 64 bytes inside the context."""
    try:
        import resource
    except ImportError:
        raise CheckSkippedError("this system cannot limit the size of files") from None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
