"""Writers of predictions: the choice by the end of a file's name, and the call of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.errors import PluginError, UsageError, author_errors
from aipcore.hooks.discovery import SUFFIX
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.hooks.records import WriterRecord
from aipcore.params.names import count, one_of
from aipcore.prediction.formats import NEEDS_PYARROW, check_place
from aipcore.training.export.requirements import lacking_packages

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction

WriteFunction = Callable[[Path, "Iterator[Prediction]", Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Writer:
    """A format of predictions.

    Attributes:
        title: name for messages.
        suffix: end of the file names that select it.
        load: function that imports and returns the function `write(path, predictions, about)`.
        record: record of the plugin; None for a format of the scenario.
    """

    title: str
    suffix: str
    load: Callable[[], WriteFunction]
    record: WriterRecord | None = None

    @property
    def takes_targets(self) -> bool:
        """True if it also writes targets and raw outputs."""
        return self.record is not None and self.record.targets


def find_writer(
    path: Path,
    plugins: PluginManager,
    *,
    own: Mapping[str, WriteFunction] | None = None,
    targets: bool = False,
    option: str = "--output",
) -> Writer:
    """Return the writer for a file name, and check that the file can be written.

    The longest suffix counts. The scenario's formats take precedence over plugins.

    Args:
        path: path of the file.
        plugins: plugin manager.
        own: formats of the scenario, by suffix; see `Scenario.prediction_writers`.
        targets: if True, only writers of targets and raw outputs are allowed.
        option: option that names the file.

    Raises:
        UsageError: no writer or several writers have a matching suffix, the file cannot be written, or a package is
            missing.
    """
    available = [*_own_writers(own or {}), *_plugin_writers(plugins)]
    if targets:
        available = [writer for writer in available if writer.takes_targets]
    name = path.name
    fitting = [writer for writer in available if name.endswith(writer.suffix) and name != writer.suffix]
    if not fitting:
        suffixes = dict.fromkeys(writer.suffix for writer in available)
        if not suffixes:
            raise UsageError(f"{option} {path} cannot be written: all writers are disabled. See `aip plugins list`.")
        raise UsageError(f"{option} {path} is not allowed. The file must end in {one_of(suffixes)}.")
    longest = max(len(writer.suffix) for writer in fitting)
    fitting = [writer for writer in fitting if len(writer.suffix) == longest]
    chosen = fitting[0]
    if chosen.record is not None and len(fitting) > 1:
        raise UsageError(
            f"{option} {path} is ambiguous: {' and '.join(writer.title for writer in fitting)} write {chosen.suffix} "
            "files. Disable one plugin with -p no:NAME."
        )
    check_place(path, option)
    if chosen.record is not None and (lacking := lacking_packages(chosen.record)):
        raise UsageError(
            NEEDS_PYARROW if chosen.suffix == ".parquet" else f"{option} {path}: {chosen.title} {lacking}."
        )
    return chosen


def _own_writers(own: Mapping[str, WriteFunction]) -> Iterator[Writer]:
    for suffix, write in own.items():
        if not (isinstance(suffix, str) and SUFFIX.fullmatch(suffix)) or not callable(write):
            raise UsageError(
                f"prediction_writers() returned {suffix!r}: {write!r}. Return functions by suffix, such as '.xml'."
            )
        yield Writer(title=f"the scenario's format {suffix}", suffix=suffix, load=partial(_same, write))


def _same(write: WriteFunction) -> WriteFunction:
    return write


def _plugin_writers(plugins: PluginManager) -> Iterator[Writer]:
    for entry in plugins.of_kind("writer"):
        record = entry.record
        assert isinstance(record, WriterRecord)
        yield Writer(
            title=f"the writer {record.name} of {entry.plugin.source}",
            suffix=record.suffix,
            load=partial(plugins.load_build, "writer", record.name),
            record=record,
        )


def write_predictions(
    path: Path, predictions: Iterable[Prediction], about: Mapping[str, Any], writer: Writer | None = None
) -> int:
    """Write predictions in the format that the end of the file name selects.

    Args:
        path: path of the file.
        predictions: predictions, computed while they are written.
        about: record of the model.
        writer: writer from `find_writer`; by default the plugin that the file name selects.

    Returns:
        the number of predictions.

    Raises:
        UsageError: the file cannot be written.
        PluginError: the writer cannot be imported, or did not read all predictions.
    """
    writer = writer or find_writer(path, get_plugin_manager())
    write = writer.load()
    number = 0

    def counted() -> Iterator[Prediction]:
        nonlocal number
        for each in predictions:
            number += 1
            yield each

    given = counted()
    with author_errors():
        try:
            write(path, given, about)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written ({error.strerror or error}). Give another file, or free some space."
            ) from error
    written = number
    if next(given, None) is not None:
        raise PluginError(f"{path} is incomplete: {writer.title} read only {count(written, 'prediction')}.")
    return number
