"""`aip launch`: a distributed run with all worker processes on this machine, for trying out `multi_worker`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from aipcore.cli.completion import complete_words
from aipcore.cli.style import Command
from aipcore.distributed.launcher import Launch, free_ports, gpu_shares
from aipcore.errors import UsageError
from aipcore.params.names import count
from aipcore.streams import make_output_optional

COMMANDS = ("train", "resume")
STRATEGY = "--device.strategy"


class _Launch(Command):
    missing = "Give the number of processes: aip launch --workers 2 train tutorial."

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
@click.option("--workers", type=click.IntRange(1), metavar="N", required=True, help="Number of worker processes.")
@click.option(
    "--port-base",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port of the first worker. The others use the next ports. By default, free ports are used.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="train|resume ...", shell_complete=complete_words)
def command(workers: int, port_base: int | None, words: tuple[str, ...]) -> None:
    """Train with several processes on this machine (distributed training).

    \b
      aip launch --workers 2 train tutorial --train.batch_size 64

    Each process gets TF_CONFIG, a new AIP_CLUSTER_SECRET, --device.strategy multi_worker and its share of the GPUs.
    The first process, the chief, prints as usual. Lines of the others begin with [worker N].
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    name = words[0] if words else ""
    if name not in COMMANDS:
        wrong = f"cannot start {name!r}" if name else "needs a command"
        raise UsageError(
            f"aip launch {wrong}. Give {' or '.join(COMMANDS)}, such as aip launch --workers N train SCENARIO."
        )
    if {"--help", "-h"} & {word.partition("=")[0] for word in words}:
        from aipcore.cli.main import main

        sys.exit(main(words))
    ports = free_ports(workers) if port_base is None else list(range(port_base, port_base + workers))
    if ports[-1] > 65535:
        raise UsageError(f"--port-base {port_base} leaves no room for {count(workers, 'worker')}. Give a smaller port.")
    make_output_optional()
    launch = Launch([*words, *_strategy(words)], ports, gpu_shares(workers, os.environ))
    sys.exit(launch.run())


def _strategy(words: Sequence[str]) -> list[str]:
    for position, word in enumerate(words):
        option, equals, value = word.replace("-", "_").partition("=")
        if option in ("__device.strategy", "__trainer.device.strategy"):
            given = value if equals else "".join(words[position + 1 : position + 2])
            if given.replace("-", "_").lower() != "multi_worker":
                raise UsageError(f"{STRATEGY} {given} cannot be used with aip launch. Write {STRATEGY} multi_worker.")
            return []
    return [STRATEGY, "multi_worker"]
