"""The faults of docs/reliability.md: each row causes one of them and checks aip's reaction.

    python benchmarks/faults.py [--list] [--only NAME]

The exit status is 1 if a row does not end as documented.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
TRAIN = ("train", "tutorial", "--trainer.tune", "off", "--trainer.random_seed", "1")
LONG = ("--trainer.epochs", "100000", "--trainer.export_best", "False")
SCENARIO = """
import attrs
import numpy as np
from aipcore.scenario import RandomProcessor, Scenario

class Jitter(RandomProcessor):
    def process(self, sample, rng):
        return attrs.evolve(sample, inputs=sample.inputs + rng.normal(0, 0.1, 2).astype("float32"))

class Lines(Scenario):
    monitor = ("min", "val_loss")

    def train_data(self):
        x = np.load("x.npy")
        return x, x[:, :1]

    val_data = train_data

    def processors(self):
        return [Jitter()]

    def build(self, inputs):
        import keras
        return keras.layers.Dense(1)(inputs)

    def losses(self):
        import keras
        return keras.losses.MeanSquaredError()
"""

Row = Callable[["Place"], str]
ROWS: dict[str, Row] = {}


class WrongError(Exception):
    """A row did not end as documented."""


def row(name: str) -> Callable[[Row], Row]:
    """Add a function to the rows."""

    def add(function: Row) -> Row:
        ROWS[name] = function
        return function

    return add


def expect(holds: object, why: str) -> None:
    """Raise WrongError unless a condition holds."""
    if not holds:
        raise WrongError(why)


class Place:
    """An empty folder for one row, and a finished run to copy from."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base
        self.started: list[subprocess.Popen[str]] = []

    def run(self, name: str = "run") -> Path:
        """Return a copy of the finished run of two epochs."""
        return Path(shutil.copytree(self.base, self.folder / name))

    def start(self, *words: object, **options: object) -> subprocess.Popen[str]:
        """Start aip in this folder."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
        process = subprocess.Popen([*AIP, *map(str, words)], cwd=self.folder, text=True, env=environment, **pipes)
        self.started.append(process)
        return process

    def aip(self, *words: object, status: int, says: str = "", **options: object) -> str:
        """Run aip in this folder and return the line that contains `says`."""
        return self.end(self.start(*words, **options), status=status, says=says)

    def end(self, process: subprocess.Popen[str], *, status: int, says: str = "") -> str:
        """Wait for a process and return the line that contains `says`."""
        try:
            output, errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise WrongError("it did not end within 120 s") from None
        text = (output or "") + (errors or "")
        for fault in ("Traceback", "failed unexpectedly"):
            expect(fault not in text, text[-800:])
        expect(process.returncode == status, f"exit {process.returncode}, not {status}: {text[-400:]}")
        found = [line for line in text.splitlines() if says in line]
        expect(found or not says, f"no line contains {says!r}: {text[-400:]}")
        return f"exit {status}: {found[0][:150]}" if says else f"exit {status}"

    def when(self, process: subprocess.Popen[str], pattern: str) -> Path:
        """Wait until a file exists."""
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            if found := next(self.folder.glob(pattern), None):
                return found
            time.sleep(0.002)
        process.kill()
        raise WrongError(f"{pattern} was not written: {process.communicate()}")


def newest(run: Path) -> Path:
    """Return the newest checkpoint of a run."""
    return max(run.glob("checkpoint/step-*"))


@row("kill before the run")
def _(place: Place) -> str:
    process = place.start(*TRAIN, "--trainer.output_dir", "k")
    time.sleep(0.5)
    process.kill()
    process.communicate()
    return place.aip("resume", "k", status=2, says="error: ")


@row("kill during a write")
def _(place: Place) -> str:
    process = place.start(*TRAIN, "--trainer.epochs", 2, "--checkpoint.every_steps", 10, "--trainer.output_dir", "k")
    place.when(process, "k/checkpoint/.step-000000001*.new")
    process.kill()
    process.communicate()
    said = place.aip("resume", "k", status=0, says="Resuming from")
    expect(not list(place.folder.glob("k/checkpoint/.*.new")), "the unfinished folder still exists")
    return said


@row("SIGTERM")
def _(place: Place) -> str:
    process = place.start(*TRAIN, *LONG, "--trainer.output_dir", "k")
    place.when(process, "k/checkpoint/step-0000000091")
    process.terminate()
    return place.end(process, status=143, says="Interrupted after")


@row("SIGINT twice")
def _(place: Place) -> str:
    process = place.start(*TRAIN, *LONG, "--trainer.output_dir", "k")
    place.when(process, "k/checkpoint/step-0000000091")
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    return place.end(process, status=130)


def small_files() -> None:
    """Limit files to 30 kB, so that longer writes fail as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


@row("no room for a checkpoint")
def _(place: Place) -> str:
    words = (*TRAIN, "--trainer.epochs", 1, "--trainer.output_dir", "k")
    return place.aip(*words, status=1, says="could not be written", preexec_fn=small_files)


@row("no room for a checkpoint, on_error warn")
def _(place: Place) -> str:
    words = (*TRAIN, "--trainer.epochs", 1, "--checkpoint.on_error", "warn", "--trainer.output_dir", "k")
    return place.aip(*words, status=0, says="Training continues", preexec_fn=small_files)


@row("output folder that cannot be written")
def _(place: Place) -> str:
    return place.aip(*TRAIN, "--trainer.output_dir", "/proc/run", status=2, says="error: ")


@row("bit flip in the newest checkpoint")
def _(place: Place) -> str:
    file = newest(place.run()) / "variables.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return place.aip("resume", "run", status=0, says="is damaged (variables.npz does not match the manifest)")


@row("truncated file in the newest checkpoint")
def _(place: Place) -> str:
    os.truncate(newest(place.run()) / "progress.json", 20)
    return place.aip("resume", "run", status=0, says="is damaged (progress.json")


@row("truncated run.json")
def _(place: Place) -> str:
    os.truncate(place.run() / "run.json", 20)
    return place.aip("resume", "run", status=2, says="cannot be read")


@row("two processes")
def _(place: Place) -> str:
    from aipcore.training.run_folder import locked

    with locked(place.run()):
        return place.aip(
            "resume", "run", "--trainer.epochs", 3, status=2, says="is being written to by another process"
        )


@row("link in the folder")
def _(place: Place) -> str:
    victim = place.folder / "victim"
    (place.run() / "log.csv").symlink_to(victim)
    said = place.aip("resume", "run", status=2, says="contains the symbolic link log.csv")
    expect(not victim.exists(), "aip wrote through the link")
    return said


@row("pipe in the folder")
def _(place: Place) -> str:
    file = newest(place.run()) / "manifest.json"
    file.unlink()
    os.mkfifo(file)
    return place.aip("resume", "run", status=2, says="neither a regular file nor a folder")


@row("a stranger's code")
def _(place: Place) -> str:
    file = place.run() / "run.json"
    about = json.loads(file.read_text())
    about["scenario"] = {"name": "evil", "kind": "file", "reference": "evil.py:Evil"}
    file.write_text(json.dumps(about))
    (place.folder / "evil.py").write_text("open('ran', 'w')")
    said = place.aip("resume", "run", status=2, says="--trust")
    expect(not (place.folder / "ran").exists(), "the code was run")
    return said


@row("a stranger's address")
def _(place: Place) -> str:
    file = place.run() / "params.json"
    params = json.loads(file.read_text())
    params["trainer"]["callbacks"] = [{"name": "Webhook", "url": "http://127.0.0.1:9/"}]
    file.write_text(json.dumps(params))
    return place.aip("resume", "run", status=2, says="127.0.0.1:9")


@row("hostile manifest")
def _(place: Place) -> str:
    run = place.run()
    for file in run.glob("checkpoint/*/manifest.json"):
        file.write_text("[" * 100_000)
    return place.aip("lav", newest(run), status=2, says="error: ")


@row("deep parameter file")
def _(place: Place) -> str:
    (place.folder / "deep.yaml").write_text("[" * 100_000)
    return place.aip("params", "tutorial", "--params", "deep.yaml", status=2, says="nested too deeply")


@row("huge npz")
def _(place: Place) -> str:
    with zipfile.ZipFile(place.folder / "answers.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.npy", b"")
        archive.infolist()[0].file_size = 6 * 2**30
    return place.aip("evaluate", "answers.npz", status=2, says="unpacks to 6.0 GiB")


@row("strangers at the chief's port")
def _(place: Place) -> str:
    from aipcore.distributed.cluster import Cluster
    from aipcore.distributed.launcher import free_ports
    from aipcore.distributed.rendezvous import Tell, meet

    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    found: list[list[object]] = []

    def work(index: int) -> None:
        tell = Tell(note=lambda text: None, last_words=lambda text: None)
        with meet(Cluster(addresses, index, "a secret of both"), 60, tell) as workers:
            found.append(workers.exchange("numbers", index))

    threads = [threading.Thread(target=work, args=[index], daemon=True) for index in (0, 1)]
    threads[0].start()
    time.sleep(1)
    strangers = []
    for content in (b"", b"[" * 100_000, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n"):
        strangers.append(socket.create_connection(("127.0.0.1", int(addresses[0].rpartition(":")[2]))))
        strangers[-1].sendall(content)
    began = time.monotonic()
    threads[1].start()
    for thread in threads:
        thread.join(30)
    expect(found == [[0, 1], [0, 1]], f"the processes exchanged {found}")
    return f"the processes connected {time.monotonic() - began:.1f} s after the second one started"


def children(pid: int) -> list[int]:
    """Return the child processes of a process, on Linux."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def lines(place: Place, value: float) -> tuple[str, ...]:
    """Write a scenario and its data, and return the command-line arguments that train it."""
    import numpy as np

    (place.folder / "lines.py").write_text(SCENARIO)
    np.save(place.folder / "x.npy", np.full((64, 2), value, np.float32))
    return ("train", "lines.py", "--trainer.tune", "off", "--train.batch_size", "8", "--trainer.output_dir", "k")


@row("data worker killed")
def _(place: Place) -> str:
    process = place.start(*lines(place, 1.0), *LONG, "--data.workers", 2)
    place.when(process, "k/checkpoint/step-0000000016")
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    return place.end(process, status=1, says="ended unexpectedly (signal SIGKILL")


@row("worker process killed")
def _(place: Place) -> str:
    process = place.start("launch", "--workers", 2, *TRAIN, *LONG, "--trainer.output_dir", "k")
    place.when(process, "k/checkpoint/step-0000000091")
    os.kill(children(process.pid)[1], signal.SIGKILL)
    return place.end(process, status=137, says="error: ")


@row("loss that is not finite")
def _(place: Place) -> str:
    words = ("--learning_rate.lr", "1e30", "--optimizer", "SGD", "--trainer.output_dir", "k")
    return place.aip(*TRAIN, *words, status=1, says="The loss is nan after")


@row("closed output streams")
def _(place: Place) -> str:
    command = [
        "bash",
        "-c",
        'exec "$@" >&- 2>&-',
        "-",
        *AIP,
        *TRAIN,
        "--trainer.epochs",
        "1",
        "--trainer.output_dir",
        "k",
    ]
    done = subprocess.run(command, cwd=place.folder, check=False, timeout=120)
    expect(done.returncode == 0, f"exit {done.returncode}")
    expect((place.folder / "k" / "export").is_dir(), "the model was not exported")
    return "exit 0: trained and exported"


@row("full output streams")
def _(place: Place) -> str:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        place.aip(*TRAIN, "--trainer.epochs", 1, "--trainer.output_dir", "k", status=0, stdout=full, stderr=full)
    expect((place.folder / "k" / "train.log").is_file(), "there is no train.log")
    expect((place.folder / "k" / "export").is_dir(), "the model was not exported")
    return "exit 0: trained and exported"


@row("run folder renamed")
def _(place: Place) -> str:
    process = place.start(*TRAIN, *LONG, "--trainer.output_dir", "k")
    place.when(process, "k/checkpoint/step-0000000091")
    (place.folder / "k").rename(place.folder / "moved")
    ended = place.end(process, status=1, says="was moved to")
    expect(not (place.folder / "k").exists(), "a second folder was created")
    return f"{ended} The newest checkpoint in it is {newest(place.folder / 'moved').name}."


@row("finished run without checkpoints")
def _(place: Place) -> str:
    place.aip(
        *TRAIN, "--trainer.epochs", 1, "--trainer.write_checkpoints", "False", "--trainer.output_dir", "k", status=0
    )
    before = (place.folder / "k" / "export" / "aip.json").stat().st_mtime_ns
    process = place.start("resume", "k")
    output, errors = process.communicate(timeout=120)
    expect((place.folder / "k" / "export" / "aip.json").stat().st_mtime_ns == before, "it was trained again")
    return f"exit {process.returncode}: {(output + errors).splitlines()[0][:150]}"


@row("changed data, --strict-data")
def _(place: Place) -> str:
    place.aip(*lines(place, 1.0), "--trainer.epochs", 1, status=0)
    lines(place, 0.0)
    return place.aip("resume", "k", "--trust", "--strict-data", "--trainer.epochs", 2, status=2, says="data")


def main() -> int:
    """Run the rows and print one line per row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--only", action="append", choices=sorted(ROWS), metavar="NAME", help="run this row")
    arguments = parser.parse_args()
    names = arguments.only or list(ROWS)
    if arguments.list:
        print("\n".join(names))
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        first = Place(Path(top), Path())
        first.aip(*TRAIN, "--trainer.epochs", 2, "--trainer.output_dir", "base", status=0)
        for number, name in enumerate(names):
            place = Place(Path(top) / str(number), Path(top) / "base")
            place.folder.mkdir()
            began = time.monotonic()
            try:
                verdict, text = "as documented", ROWS[name](place)
            except Exception as error:
                verdict, text, wrong = "WRONG", f"{type(error).__name__}: {error}", wrong + 1
            for process in place.started:
                process.kill()
                process.wait()
            print(f"{name:<40} {time.monotonic() - began:>5.1f} s  {verdict:<13}  {text}", flush=True)
    print(f"{len(names) - wrong} of {len(names)} rows are as documented.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
