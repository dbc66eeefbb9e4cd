"""Manifests of a distributed run: a Kubernetes job, or a batch script of Slurm."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from aipcore.errors import UsageError
from aipcore.scaffold.bake import Template

RESTARTS = 10
"""Restarts of a Kubernetes job. A lost process ends all others, and each of them counts as a failure."""

PORT = 2222
"""The default port of each process in Kubernetes."""

INDENTATION = " " * 14
"""Indentation of the script in the Kubernetes manifest."""

MOST_CHARACTERS = 50
"""Maximum length of the name of a job: names of pods, which add a number, may have 63 characters."""


def manifest(options: Mapping[str, Any], folder: str, start: Sequence[str], resume: Sequence[str] | None) -> str:
    """Return the manifest of a run.

    Args:
        options: the options of `aip launch`.
        folder: the run folder, on a file system that all processes share.
        start: the words of each process after `aip`.
        resume: the words that resume the run; None if `start` does.

    Raises:
        UsageError: the options, the folder or the words do not fit the cluster.
    """
    if any(not word.isprintable() for word in sys.argv):
        raise UsageError("A manifest cannot contain control characters. Remove them from the command.")
    slug = re.sub("[^a-z0-9]+", "-", PurePosixPath(folder).name.lower())[:MOST_CHARACTERS].strip("-")
    values = {
        "name": f"aip-{slug}",
        "workers": options["workers"],
        "made": shlex.join(["aip", *sys.argv[1:]]),
    }
    k8s = options["print"] == "k8s"
    choice = _choice(folder, start, resume)
    values |= _of_kubernetes(values["name"], options, PurePosixPath(folder)) if k8s else _of_slurm(options)
    values["choice"] = ("\n" + INDENTATION * k8s).join(choice)
    template = files(__package__) / "manifests" / ("kubernetes.yaml.in" if k8s else "slurm.sh.in")
    return Template(template.read_text(encoding="utf-8")).substitute(values)


def _choice(folder: str, start: Sequence[str], resume: Sequence[str] | None) -> list[str]:
    """Return the lines of a script that set its arguments: to the words of a new run, or of a resumed one."""
    begin = f"set -- {shlex.join(start)}"
    if resume is None:
        return [begin]
    record = shlex.quote(str(PurePosixPath(folder) / "params.json"))
    return [f"if [ -e {record} ]; then", f"  set -- {shlex.join(resume)}", "else", f"  {begin}", "fi"]


def _of_kubernetes(name: str, options: Mapping[str, Any], folder: PurePosixPath) -> dict[str, Any]:
    if options["image"] is None:
        raise UsageError("--print k8s needs the container image of the processes. Add --image IMAGE.")
    if not folder.is_absolute() or len(folder.parts) < 3:
        raise UsageError(
            f"{folder} cannot be the run folder of pods, which share the volume that is mounted at its parent folder. "
            "Use an absolute path such as /runs/digits."
        )
    workers, port = options["workers"], options["port_base"] or PORT
    resources = {"requests": {"cpu": options["cpus"]}, "limits": {"nvidia.com/gpu": options["gpus"]}}
    return {
        "image": json.dumps(options["image"]),
        "port": port,
        "addresses": json.dumps([f"{name}-{index}.{name}:{port}" for index in range(workers)]),
        "failures": RESTARTS * workers,
        "claim": json.dumps(folder.parent.name),
        "mount": json.dumps(str(folder.parent)),
        "resources": json.dumps({key: each for key, each in resources.items() if all(each.values())}),
    }


def _of_slurm(options: Mapping[str, Any]) -> dict[str, str]:
    if options["image"] is not None:
        raise UsageError("--image is only used with --print k8s. Leave it out.")
    given = {"gpus-per-node": options["gpus"], "cpus-per-task": options["cpus"]}
    return {"resources": "".join(f"\n#SBATCH --{name}={number}" for name, number in given.items() if number)}
