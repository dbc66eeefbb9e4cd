"""`aip doctor`: versions, devices, plugins and known problems, in a form to paste into an issue."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from aipcore.cli.style import Command
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.logs import LEVELS
from aipcore.params.names import count

PACKAGES = (
    "aipcore",
    "tensorflow",
    "keras",
    "tensorboard",
    "numpy",
    "grain",
    "pluggy",
    "click",
    "rich",
    "attrs",
    "cattrs",
)
LEAST_DISK = 2**30
LEAST_SHARED_MEMORY = 2**28


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show versions, devices, plugins and known problems.

    The exit code is 1 if there is a problem.
    """
    plugins = get_plugin_manager()
    facts = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}, "
        f"{count(os.cpu_count() or 1, 'core')}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: _version(name) for name in PACKAGES},
        "devices": ", ".join(_devices()) or "none",
        "plugins": _plugins(plugins),
    }
    problems = list(_problems(plugins))
    if as_json:
        click.echo(json.dumps({"facts": facts, "problems": problems}, indent=2))
    else:
        width = max(map(len, facts))
        click.echo("".join(f"{name:<{width}}  {text}\n" for name, text in facts.items()))
        click.echo("No problems found." if not problems else "Problems:")
        click.echo("".join(f"- {problem}\n" for problem in problems), nl=False)
    if problems:
        sys.exit(1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> Iterator[str]:
    if _version("tensorflow") == "not installed":
        return
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    for device in tf.config.list_physical_devices():
        name = device.name.removeprefix("/physical_device:")
        model = tf.config.experimental.get_device_details(device).get("device_name", "") if "GPU" in name else ""
        yield f"{name} ({model})" if model else name


def _plugins(plugins: PluginManager) -> str:
    strangers = [plugin for plugin in plugins.plugins if not plugin.is_own]
    listed = "".join(f", {plugin.source} ({plugin.status})" for plugin in strangers)
    return f"{len(plugins.plugins) - len(strangers)} built-in, {len(strangers)} third-party{listed}"


def _problems(plugins: PluginManager) -> Iterator[str]:
    if not (3, 11) <= sys.version_info < (3, 14):
        yield f"Python {platform.python_version()} is not supported. Use Python 3.11 to 3.13."
    for name, wanted in (("tensorflow", "2.21."), ("keras", "3.15.")):
        found = _version(name)
        if not found.startswith(wanted):
            yield f"{name} is {found}, but aip requires {wanted}x. Run pip install '{name}=={wanted}*'."
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        yield f"KERAS_BACKEND is {backend!r}, but aip requires tensorflow. Unset it."
    level = os.environ.get("AIP_LOG_LEVEL", "info").strip().lower()
    if level not in LEVELS:
        allowed = ", ".join(LEVELS)
        yield f"AIP_LOG_LEVEL is {level!r}, which is not a log level. Set it to one of {allowed}, or unset it."
    for plugin in plugins.plugins:
        if plugin.status == "broken":
            yield f"The plugin {plugin.name} of {plugin.source} {plugin.reason}."
    for entry in plugins.entries:
        if entry.status == "broken":
            yield f"{entry.title} cannot be used because {entry.reason}."
    if shutil.which("nvidia-smi") and not any("GPU" in device for device in _devices()):
        yield "An NVIDIA driver is installed, but TensorFlow finds no GPU. Run pip install 'aipcore[gpu]'."
    free = shutil.disk_usage(Path.cwd()).free
    if free < LEAST_DISK:
        yield f"Only {free / 2**20:.0f} MiB are free in {Path.cwd()}, which a run may fill. Train in another folder."
    shared = Path("/dev/shm")
    if shared.is_dir() and (left := shutil.disk_usage(shared).free) < LEAST_SHARED_MEMORY:
        yield f"Only {left / 2**20:.0f} MiB of shared memory are free. Start the container with --shm-size 1g."
