"""`aip launch`: a distributed run with all worker processes on this machine, or on the hosts of a cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from aipcore.cli.completion import complete_words
from aipcore.cli.style import Command, report
from aipcore.distributed.launcher import Launch, find_hosts
from aipcore.errors import UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params.names import count
from aipcore.streams import make_output_optional

COMMANDS = ("train", "resume")
STRATEGY = "--device.strategy"


class _Launch(Command):
    missing = "Set the number of processes: aip launch --workers 2 train tutorial."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the words of the launched command after its name; before it, options and command names."""
        words = list(ctx.params.get("words") or [])
        if not words:
            if incomplete.startswith("-"):
                return super().shell_complete(ctx, incomplete)
            return [CompletionItem(each) for each in COMMANDS if each.startswith(incomplete)]
        from aipcore.cli.main import app

        started = app.get_command(ctx.find_root(), words[0]) if words[0] in COMMANDS else None
        if started is None:
            return []
        inner = click.Context(started)
        inner.params["words"] = words[1:]
        return started.shell_complete(inner, incomplete)


@click.command(
    "launch",
    cls=_Launch,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--workers", type=click.IntRange(1), metavar="N", required=True, help="Number of processes of the run.")
@click.option(
    "--port-base",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port of the first worker. The others use the next ports. By default, free ports are used.",
)
@click.option(
    "--cluster",
    metavar="NAME[:OPTIONS]",
    help="Start the processes on the hosts of a cluster, such as ray. By default, on this machine. Packages may add "
    "clusters.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Resume the run up to N times after a lost process. The process was killed, or its host failed. By default, "
    "the run ends.",
)
@click.option(
    "--print",
    type=click.Choice(("k8s", "slurm")),
    help="Print a manifest for a cluster, and start nothing. k8s is a Kubernetes job, slurm a batch script.",
)
@click.option("--image", metavar="IMAGE", help="Container image of the processes, for --print k8s.")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs of each process, for --print.")
@click.option("--cpus", type=click.IntRange(1), metavar="N", help="CPUs of each process, for --print.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="train|resume ...", shell_complete=complete_words)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    workers: int,
    port_base: int | None,
    cluster: str | None,
    max_restarts: int,
    words: tuple[str, ...],
    **printed: Any,
) -> None:
    """Train with several processes, on this machine or on a cluster.

    \b
      aip launch --workers 2 train tutorial --train.batch_size 64
      aip launch --cluster ray --workers 4 --max-restarts 3 train tutorial --trainer.output_dir /shared/run
      aip launch --workers 4 --print slurm train tutorial --trainer.output_dir /shared/run

    Each process gets TF_CONFIG, a new AIP_CLUSTER_SECRET, --device.strategy multi_worker and its share of the GPUs.
    The first process, the chief, prints as usual. Lines of the others begin with [worker N].
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    name = words[0] if words else ""
    if name not in COMMANDS:
        wrong = f"cannot start {name!r}" if name else "needs a command"
        raise UsageError(
            f"aip launch {wrong}. Use {' or '.join(COMMANDS)}, such as aip launch --workers N train SCENARIO."
        )
    if {"--help", "-h"} & {word.partition("=")[0] for word in words}:
        from aipcore.cli.main import main

        sys.exit(main([*_options_of_aip(ctx), *words]))
    if printed["print"] is not None:
        if cluster is not None or max_restarts:
            option = "--cluster" if cluster is not None else "--max-restarts"
            raise UsageError(f"{option} starts a run, and --print starts nothing. Leave one of them out.")
        click.echo(_manifest(ctx, words), nl=False)
        return
    unused = next((option for option, value in printed.items() if value is not None), None)
    if unused is not None:
        raise UsageError(f"--{unused} is only used with --print k8s or --print slurm. Leave it out.")
    if port_base is not None and port_base + workers > 65536:
        raise UsageError(f"--port-base {port_base} leaves no room for {count(workers, 'worker')}. Choose a lower port.")
    _strategy(words)
    hosts = find_hosts(cluster)
    words_of: Callable[[int], list[str]] = lambda _: list(words)  # noqa: E731
    if max_restarts:
        from aipcore.cli.restart import plan_restarts

        words_of = plan_restarts(words).words
    make_output_optional()
    options = [] if cluster is None else ["--cluster", cluster]
    options += ["--max-restarts", str(max_restarts)] if max_restarts else []
    launch = Launch(hosts, workers, shlex.join(["aip", "launch", "--workers", str(workers), *options]), port_base)
    sys.exit(_run(launch, _options_of_aip(ctx), words_of, max_restarts))


def _run(launch: Launch, options: Sequence[str], words_of: Callable[[int], list[str]], most: int) -> int:
    """Run the workers, again after a lost one, and return the exit code.

    Args:
        launch: starts the workers.
        options: the options of `aip` itself.
        words_of: returns the other words of a worker, from the number of earlier starts.
        most: the maximum number of restarts.
    """
    restarts = 0
    while True:
        words = words_of(restarts)
        end = launch.run([*options, *words, *_strategy(words)])
        if end.lost is None:
            return end.code
        if restarts == most:
            if not end.explained:
                report("error", f"Worker {end.lost} is gone: it was killed, or its host or network failed.")
            return end.code
        restarts += 1
        report("aip", f"Worker {end.lost} is lost. Restart {restarts} of {most}.")


def _options_of_aip(ctx: click.Context) -> list[str]:
    """Return the options of `aip` itself, which apply to each process too."""
    given = ctx.find_root().params
    plugins = [word for value in given.get("plugins") or () for word in ("-p", value)]
    return [*plugins, *(f"--{name.replace('_', '-')}" for name in ("no_plugins", "debug") if given.get(name))]


def _strategy(words: Sequence[str]) -> list[str]:
    given = _value(words, "device.strategy")
    if given is None:
        return [STRATEGY, "multi_worker"]
    if given.replace("-", "_").lower() != "multi_worker":
        raise UsageError(f"{STRATEGY} {given} cannot be used with aip launch. Write {STRATEGY} multi_worker.")
    return []


def _value(words: Sequence[str], path: str) -> str | None:
    """Return the value of a parameter of the trainer, by its dotted path; None if it is not given."""
    for position, word in enumerate(words):
        option, equals, _ = word.replace("-", "_").partition("=")
        if option in (f"__{path}", f"__trainer.{path}"):
            return word.partition("=")[2] if equals else "".join(words[position + 1 : position + 2])
    return None


def _manifest(ctx: click.Context, words: tuple[str, ...]) -> str:
    from aipcore.cli.manifest import manifest

    own, resumes = _options_of_aip(ctx), words[0] == "resume"
    folder = "".join(words[1:2]) if resumes else _value(words, "output_dir")
    if not folder or folder.startswith("-"):
        where = "Write resume DIR" if resumes else "Add --trainer.output_dir DIR"
        raise UsageError(f"--print needs the run folder, on a file system that all processes share. {where}.")
    start, port = [*own, *words, *_strategy(words)], ctx.params["port_base"]
    if ctx.params["print"] == "slurm" and port is not None:
        start += ["--device.slurm_port", str(port)]
    return manifest(ctx.params, folder, start, None if resumes else [*own, "resume", folder, *_trust(words)])


def _trust(words: Sequence[str]) -> list[str]:
    """Return `--trust` if a run cannot be resumed without it: it names code or addresses."""
    scenario = words[1] if len(words) > 1 else ""
    named = any("://" in word or word.startswith("--params") for word in words)
    return ["--trust"] if named or not get_plugin_manager().has("scenario", scenario) else []
