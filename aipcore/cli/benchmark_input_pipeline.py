"""`aip benchmark-input-pipeline`: the throughput of the training data, and its bottleneck."""

from __future__ import annotations

import secrets
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.live import Live
from rich.table import Table

from aipcore.cli.completion import ParametersCommand, words_command
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import HELP, PARAMS, command_option, make_request, split_arguments
from aipcore.console import Console
from aipcore.params import Resolved
from aipcore.params.names import count
from aipcore.training.request import Request

if TYPE_CHECKING:
    from aipcore.data.loader import DataLoader
    from aipcore.data.pipeline import Pipeline
    from aipcore.data.throughput import Share
    from aipcore.scenario.scenario import Scenario

NAME = "benchmark-input-pipeline"
SECONDS = command_option(
    "--seconds",
    help="Stop after N seconds. By default, Ctrl-C stops the measurement.",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
)
WITH_MODEL = command_option(
    "--with-model",
    help="Also time the training step of the model. The report names the slower of data and model.",
)
OPTIONS = (HELP, PARAMS, SECONDS, WITH_MODEL)

INTERVAL = 1.0
"""Time between two displayed measurements, in seconds."""

CHUNK = 8
"""Number of batches taken per step of the measurement."""


@attrs.define(kw_only=True)
class Progress:
    """The measurements so far.

    Attributes:
        samples: number of samples received.
        nbytes: their size in bytes.
        seconds: time since the first batch.
        filled: mean fraction of prefetched batches that were ready.
        looks: number of checks behind that mean.
    """

    samples: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    filled: float = 0.0
    looks: int = 0

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds if self.seconds else 0.0


@words_command(NAME, ParametersCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Measure the throughput of the training data and find its bottleneck."""
    arguments = split_arguments(words, OPTIONS, NAME)
    console = Console()
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(console, command)
        return
    request = make_request(arguments, NAME)
    if "--help" in arguments.options:
        show_help(console, request, command, arguments)
        return
    run = _with_model if "--with-model" in arguments.options else _alone
    run(request, request.resolved(), console, arguments.options.get("--seconds"))


def _alone(request: Request, resolved: Resolved[Any], console: Console, seconds: float | None) -> None:
    from aipcore.data.processor import Mode
    from aipcore.scenario.pipelines import make_pipeline, make_workers
    from aipcore.scenario.scenario import Scenario

    params: Any = resolved.value
    scenario = request.scenario.cls(params)
    workers = make_workers(params)
    given = params.trainer.random_seed
    try:
        pipeline = make_pipeline(
            scenario,
            params,
            scenario.train_data(),
            origin="train_data()",
            mode=Mode.TRAINING,
            preload=params.train.preload,
            seed=secrets.randbelow(2**31) if given is None else given,
            workers=workers,
            limit=params.train.limit,
            again=scenario.train_data,
            streamed=params.trainer.samples_per_epoch != -1 and params.train.preload != "on",
        )
        loader = pipeline.loader(
            params.train.batch_size,
            samples=None if params.trainer.samples_per_epoch == -1 else params.trainer.samples_per_epoch,
            shuffle=params.train.shuffle,
            bucket_window=params.train.bucket_window,
            drop_remainder=params.train.batch_drop_remainder,
        )
        if type(scenario).preprocessing is not Scenario.preprocessing:
            loader = _preprocessed(scenario, loader)
        _report(console, pipeline, loader, seconds, model=None)
    finally:
        workers.close()


def _preprocessed(scenario: Scenario, loader: DataLoader) -> DataLoader:
    """Return a loader of the same batches after the scenario's preprocessing."""
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aipcore.data.loader import DataLoader
    from aipcore.scenario.adaptation import adapted_preprocessing
    from aipcore.scenario.preprocessing import preprocessed

    made = adapted_preprocessing(scenario, loader.dataset)
    if made is None:
        return loader
    params = scenario.params
    dataset = preprocessed(loader.dataset, made, params.train.preload, params.data)
    return DataLoader(dataset, loader.order, loader.batching)


def _with_model(request: Request, resolved: Resolved[Any], console: Console, seconds: float | None) -> None:
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aipcore.distributed.devices import select_devices
    from aipcore.training.throughput import samples_per_second
    from aipcore.training.trainer import Trainer

    select_devices(resolved.value.trainer.device)
    trainer = Trainer.from_request(request, resolved, output_dir=None)
    try:
        with console.status("timing the model"):
            model = samples_per_second(trainer.engine, trainer.state.variables, trainer.compile())
        _report(console, trainer.data.pipelines[0], trainer.data.loader, seconds, model=model)
    finally:
        trainer.data.close()


def _report(
    console: Console, pipeline: Pipeline, loader: DataLoader, seconds: float | None, *, model: float | None
) -> None:
    from aipcore.data.parallel import ParallelDataset
    from aipcore.data.streamed import StreamDataset
    from aipcore.data.throughput import shares, verdict

    dataset = pipeline.dataset()
    workers = dataset.choice().workers if isinstance(dataset, ParallelDataset | StreamDataset) else 0
    samples = count(loader.batching.samples + loader.batching.dropped, "training sample")
    console.print(f"{samples} in batches of {loader.batching.batch_size}", highlight=False)
    where = f"a stream: {dataset.describe()}" if isinstance(dataset, StreamDataset) else "samples in memory"
    console.print(pipeline.describe() or f"{where}, no processing", highlight=False)
    parts = shares(dataset)
    progress = Progress()
    # The user ends the measurement with Ctrl-C. The results so far count.
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, transient=True) as live:
        _measure(progress, pipeline, loader, seconds, lambda line: _show(console, live, line))
    _show_shares(console, parts)
    console.print(
        f"{count(progress.samples, 'sample')} in {progress.seconds:.1f} s: {progress.rate:,.0f} samples/s, "
        f"{progress.nbytes / max(progress.seconds, 1e-9) / 2**20:,.1f} MiB/s",
        highlight=False,
    )
    console.print(
        verdict(parts, workers=workers, filled=progress.filled, data=progress.rate, model=model), highlight=False
    )
    if text := pipeline.skipped():
        console.print(text, highlight=False)


def _measure(progress: Progress, pipeline: Pipeline, loader: DataLoader, seconds: float | None, show: Any) -> None:
    from aipcore.data.throughput import endless, size_of

    begun = shown = time.perf_counter()
    samples = 0
    with closing(endless(loader, chunk=CHUNK)) as blocks:
        for block in blocks:
            ready, ahead = pipeline.workers.filled()
            now = time.perf_counter()
            count = block.steps * block.batch_size
            progress.samples += count
            progress.nbytes += size_of(block)
            progress.seconds = now - begun
            if ahead:
                progress.looks += 1
                progress.filled += (ready / ahead - progress.filled) / progress.looks
            samples += count
            if now - shown >= INTERVAL:
                queue = f", {ready} of {ahead} prefetched parts are ready" if ahead else ""
                show(f"{samples / (now - shown):,.0f} samples/s{queue}")
                shown, samples = now, 0
            if seconds is not None and progress.seconds >= seconds:
                return


def _show(console: Console, live: Live, line: str) -> None:
    if console.is_terminal:
        live.update(line, refresh=True)
    else:
        console.print(line, highlight=False)


def _show_shares(console: Console, parts: list[Share]) -> None:
    if not parts:
        return
    total = max(sum(part.seconds for part in parts), 1e-12)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for part in parts:
        table.add_row(part.name, f"{part.seconds * 1000:.3f} ms per sample", f"{part.seconds / total:.0%}")
    console.print(table, highlight=False)
