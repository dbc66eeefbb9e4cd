"""`aip launch` before it starts workers, and the environment of a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aipcore.cli.main import main
from aipcore.distributed.launcher import Launch, gpu_shares
from aipcore.errors import UsageError


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--workers", "2"], "aip launch needs a command. Use train or resume"),
        (["--workers", "2", "params", "tutorial"], "aip launch cannot start 'params'. Use train or resume"),
        (
            ["--workers", "2", "train", "tutorial", "--device.strategy", "mirror"],
            "mirror cannot be used with aip launch",
        ),
        (["--workers", "2", "train", "tutorial", "--device.strategy=none"], "none cannot be used with aip launch"),
        (["--workers", "9", "--port-base", "65530", "train", "tutorial"], "leaves no room for 9 workers"),
        (["--workers", "2", "--cluster", "rai", "train", "tutorial"], "--cluster rai is not available. Choose ray."),
        (["--workers", "0", "train", "tutorial"], "--workers"),
        (["train", "tutorial"], "--workers"),
    ],
)
def test_wrong(fork_aip: Any, words: list[str], text: str) -> None:
    """Bad input is refused in one sentence with exit code 2."""
    done = fork_aip("launch", *words)
    assert done.returncode == 2
    assert text in done.stderr


def test_help(fork_aip: Any) -> None:
    """The help of `aip launch` and that of the started command are shown once."""
    own = fork_aip("launch", "--help")
    assert own.returncode == 0
    assert "aip launch --workers 2 train tutorial" in own.stdout
    inner = fork_aip("launch", "--workers", "2", "train", "tutorial", "--help=trainer")
    assert inner.returncode == 0
    assert inner.stdout.count("--trainer.epochs INT") == 1


def test_the_same_error_is_shown_once(fork_aip: Any) -> None:
    """If all workers find the same wrong parameter, the log has one error, and the exit code is theirs."""
    done = fork_aip("launch", "--workers", "3", "train", "tutorial", "--trainer.epochs", "many")
    assert done.returncode == 2
    assert done.stderr.count("--trainer.epochs") == 1


@pytest.mark.parametrize("config", [None, "{}"])
def test_no_cluster(fork_aip: Any, config: str | None) -> None:
    """A worker without a cluster names the variable to set."""
    environment = {} if config is None else {"TF_CONFIG": config}
    done = fork_aip("train", "tutorial", "--device.strategy", "multi_worker", **environment)
    assert done.returncode == 2
    assert "TF_CONFIG" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_secret(fork_aip: Any) -> None:
    """Workers without a secret show the command that creates one, before anything is computed."""
    config = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}'
    done = fork_aip("train", "tutorial", "--device.strategy", "multi_worker", TF_CONFIG=config)
    assert done.returncode == 2
    assert "export AIP_CLUSTER_SECRET=$(openssl rand -hex 32)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Ended:
    """A worker that has ended."""

    stdout = stderr = ()

    def __init__(self, code: int) -> None:
        self.returncode = code

    def poll(self) -> int:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        del timeout
        return self.returncode


class Scripted:
    """Hosts whose workers end immediately, at each start with the next exit codes."""

    patience = 0.0

    def __init__(self, *codes: tuple[int, int], run: Path | None = None) -> None:
        self.codes = list(codes)
        self.run = run
        self.started: list[tuple[list[str], dict[str, str]]] = []

    def place(self, workers: int, port_base: int | None) -> list[str]:
        assert port_base is None
        return [f"host-{index}:1" for index in range(workers)]

    def start(self, index: int, words: Sequence[str], environment: Mapping[str, str]) -> Any:
        self.started.append((list(words), {**os.environ, **environment}))
        if self.run is not None:
            self.run.mkdir(parents=True, exist_ok=True)
            for name in ("run.json", "params.json"):
                (self.run / name).touch()
        return Ended(self.codes[0][index])

    def release(self) -> None:
        self.codes.pop(0)


def test_secret_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each launch gives its workers a new secret, only in the environment."""
    monkeypatch.setenv("AIP_CLUSTER_SECRET", "of another run that listens")
    hosts = Scripted((0, 0), (0, 0))
    for _ in range(2):
        assert Launch(hosts, 2, "aip launch").run(["train", "tutorial"]).code == 0
    values = [environment["AIP_CLUSTER_SECRET"] for _, environment in hosts.started]
    assert values[0] == values[1] != values[2] == values[3]
    assert all(
        len(each) == 64 and not any(each in word for word in words) for each in values for words, _ in hosts.started
    )


def launch(hosts: Scripted, *words: str) -> Any:
    """Run `aip launch` on scripted hosts, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aipcore.cli.launch.find_hosts", lambda cluster: hosts)
        with pytest.raises(SystemExit) as end:
            main(["launch", "--workers", "2", "--cluster", "x:a=b", *words])
    return end.value.code


def test_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a lost worker is resumed, with the secrets that its folder does not record."""
    monkeypatch.chdir(tmp_path)
    name, url = "AIP_SECRET_CALLBACKS_WEBHOOK_URL", "https://host.example/token"
    monkeypatch.setenv(name, "of another run")
    callback = ["--callbacks", "Webhook", f"--callbacks.webhook.url={url}"]
    hosts = Scripted((1, -9), (-9, 1), (0, 0), run=Path("runs/tutorial-1"))
    assert launch(hosts, "--max-restarts", "3", "train", "tutorial", *callback, "--quiet", "--json-log=log") == 0
    (first, one), (second, two), (third, _) = hosts.started[::2]
    strategy = ["--device.strategy", "multi_worker"]
    folder, log = "--trainer.output_dir=runs/tutorial-1", ["--json-log", "log"]
    assert first == ["train", "tutorial", "--quiet", *callback, folder, *log, *strategy]
    assert second == ["resume", "runs/tutorial-1", "--trust", "--quiet", "--json-log", "log.1", *strategy]
    assert third[-3] == "log.2"
    assert one[name] == two[name] == url
    assert one["AIP_LAUNCHER"] == "aip launch --workers 2 --cluster x:a=b --max-restarts 3"
    assert one["AIP_CLUSTER_SECRET"] != two["AIP_CLUSTER_SECRET"]


def test_restart_before_the_run_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has written nothing starts again."""
    monkeypatch.chdir(tmp_path)
    hosts = Scripted((0, -9), (0, 0))
    assert launch(hosts, "--max-restarts", "1", "train", "tutorial") == 0
    assert hosts.started[0][0] == hosts.started[2][0]


@pytest.mark.parametrize(
    ("codes", "starts", "code", "error"),
    [
        ([(-9, 1), (1, -9)], 2, 137, "error: Worker 1 is gone: it was killed, or its host or network failed."),
        ([(1, 1)], 1, 1, ""),
        ([(2, 2)], 1, 2, ""),
        ([(1, -signal.SIGALRM)], 1, 142, ""),
        ([(143, 143)], 1, 143, ""),
    ],
    ids=["lost twice", "an error", "wrong words", "an error and a hang", "stopped by a signal"],
)
def test_no_restart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    codes: list[tuple[int, int]],
    starts: int,
    code: int,
    error: str,
) -> None:
    """The number of restarts is limited, and only a lost worker causes one."""
    monkeypatch.chdir(tmp_path)
    hosts = Scripted(*codes)
    assert launch(hosts, "--max-restarts", "1", "train", "tutorial") == code
    assert len(hosts.started) == 2 * starts
    assert [line for line in capsys.readouterr().err.splitlines() if "error" in line] == ([error] if error else [])


def test_cluster_of_another_package(install: Any, fork_aip: Any) -> None:
    """An entry point of another package adds a cluster, which gets the text after the colon."""
    code = "import aipcore.errors as e\ndef make(options):\n    raise e.UsageError(f'no hosts for {options}')\n"
    info = install("their-cluster", code, entry_points={})
    (info / "entry_points.txt").write_text("[aip.clusters]\ntheirs = their_cluster:make\n")
    done = fork_aip("launch", "--workers", "2", "--cluster", "theirs:a:b", "train", "tutorial")
    assert (done.returncode, done.stderr) == (2, "error: no hosts for a:b\n")


def test_gpus_are_shared(refused: Any) -> None:
    """Each worker sees its part of the GPUs."""
    shares = gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})
    assert shares == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    assert gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "-1"}) == [{}, {}]
    assert gpu_shares(2, {"CUDA_VISIBLE_DEVICES": ""}) == [{}, {}]
    with refused(UsageError):
        gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "0,1,2"})
