"""The command lines of `aip launch --max-restarts`: the first one, and that of a run to be resumed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import attrs

from aipcore.cli import resume, train
from aipcore.cli.request import Arguments, make_request, split_arguments
from aipcore.params.secret import to_environment
from aipcore.training.run_folder import choose_output_dir, find_run

LOG = "--json-log"


@attrs.frozen(kw_only=True)
class Restartable:
    """A run that may be restarted.

    Attributes:
        folder: the run folder.
        start: the words that start the run, without `--json-log`.
        resume: the words that resume it.
        log: the file of `--json-log`, or None.
    """

    folder: Path
    start: list[str]
    resume: list[str]
    log: str | None

    def words(self, restarts: int) -> list[str]:
        """Return the words after `aip` for the first start, or for a restart from 1."""
        # A worker may be lost before the run has a folder.
        begun = (self.folder / "run.json").is_file() and (self.folder / "params.json").is_file()
        log = [] if self.log is None else [LOG, f"{self.log}.{restarts}" if restarts else self.log]
        return [*(self.resume if restarts and begun else self.start), *log]


def plan_restarts(words: Sequence[str]) -> Restartable:
    """Return a run that `aip train` or `aip resume` starts.

    A new run gets its folder here. Secrets that no file records are set as environment variables of this process.

    Raises:
        AipError: the words are wrong.
    """
    command, *rest = words
    if command == "resume":
        arguments = split_arguments(rest, resume.OPTIONS, command, first="DIR")
        folder = find_run(Path(arguments.scenario or ".")).path
        start = again = [command, str(folder), *_own(arguments), *arguments.rest]
    else:
        arguments = split_arguments(rest, train.OPTIONS, command)
        request = make_request(arguments, command)
        resolved = request.resolved()
        given = resolved.value.trainer.output_dir
        folder = choose_output_dir(given, request.scenario.name)
        os.environ.update(to_environment(resolved.tree))
        new = [f"--trainer.output_dir={folder}"] if given is None else []
        start = [command, arguments.scenario or "", *_own(arguments), *arguments.rest, *new]
        # The folder is the run's own, so it is trusted.
        again = ["resume", str(folder), "--trust", *_own(arguments, "--params")]
    return Restartable(folder=folder, start=start, resume=again, log=arguments.options.get(LOG))


def _own(arguments: Arguments, *without: str) -> list[str]:
    """Return the words of the command's own options, without `--json-log`."""
    words: list[str] = []
    for name, value in arguments.options.items():
        if name not in (LOG, *without):
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [name, *values]
    return words
