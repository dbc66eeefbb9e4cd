"""The workers of a run, from TF_CONFIG or Slurm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aipcore.distributed.cluster import SECRET, Cluster, expand_counts, expand_hosts, read_cluster, split_address
from aipcore.errors import UsageError

TWO = ["a:1", "b:2"]
PASSWORD = "0123456789abcdef"


def config(workers: Any = TWO, kind: Any = "worker", index: Any = 1, **others: Any) -> dict[str, str]:
    """Return an environment with this TF_CONFIG."""
    cluster = {"worker": workers, **others}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}), SECRET: PASSWORD}


def step(rank: int, tasks: int, hosts: str, per_host: str, **others: str) -> dict[str, str]:
    """Return an environment like that of srun."""
    return {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NODELIST": hosts,
            "SLURM_STEP_TASKS_PER_NODE": per_host, SECRET: PASSWORD, **others}  # fmt: skip


@pytest.mark.parametrize("index", [1, "1"])
def test_tf_config(index: Any) -> None:
    """TF_CONFIG names all workers and this one; like TensorFlow, aip accepts the index as text too."""
    cluster = read_cluster(config(index=index), 8888)
    assert cluster == Cluster(("a:1", "b:2"), 1, PASSWORD)
    assert PASSWORD not in repr(cluster) + cluster.tf_config
    assert json.loads(cluster.tf_config) == json.loads(config()["TF_CONFIG"])


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({}, "Set TF_CONFIG for each worker"),
        ({"TF_CONFIG": ""}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "[]"}, "has no list of addresses in cluster.worker"),
        (config([]), "has no list of addresses in cluster.worker"),
        (config("a:1"), "has no list of addresses in cluster.worker"),
        (config(["a:1", "b"]), "has 'b' as cluster.worker[1]"),
        (config(["a:1", "b:0"]), "has 'b:0' as cluster.worker[1]"),
        (config(["a:1", "b:65536"]), "has 'b:65536' as cluster.worker[1]"),
        (config(["a:1", "http://b:2"]), "has 'http://b:2' as cluster.worker[1]"),
        (config(["a:1", "a:1"]), "names an address twice"),
        (config(chief=["c:3"]), "has tasks of type chief"),
        (config(kind="chief"), "has the task.type 'chief'"),
        (config(index=2), "has the task.index 2, which must be from 0 to 1"),
        (config(index=-1), "has the task.index -1"),
        (config(index=None), "has the task.index None"),
        (config(index=True), "has the task.index True"),
    ],
)
def test_wrong_tf_config(environment: dict[str, str], text: str) -> None:
    """Each mistake is refused in one sentence with a correct example."""
    with pytest.raises(UsageError) as caught:
        read_cluster(environment, 8888)
    assert text in str(caught.value)
    assert '{"cluster": {"worker":' in str(caught.value)


@pytest.mark.parametrize(
    ("secret", "text"),
    [(None, "AIP_CLUSTER_SECRET is not set"), ("", "is not set"), (" \n", "is not set"), ("short", "fewer than 16")],
)
@pytest.mark.parametrize("environment", [config(), step(0, 2, "a", "2")], ids=["TF_CONFIG", "Slurm"])
def test_no_secret(environment: dict[str, str], secret: str | None, text: str, refused: Any) -> None:
    """Several workers need a secret, and the error shows how to create one without repeating the given value."""
    given = {name: value for name, value in environment.items() if name != SECRET}
    with refused(UsageError) as caught:
        read_cluster(given if secret is None else {**given, SECRET: secret}, 8888)
    assert text in str(caught.value)
    assert "short" not in str(caught.value)


def test_secret_of_a_file() -> None:
    """A trailing newline, as in files, is not part of the secret; a single worker needs none."""
    assert read_cluster({**config(), SECRET: f"{PASSWORD}\n"}, 8888).secret == PASSWORD
    assert read_cluster({**config(["a:1"], index=0), SECRET: ""}, 8888).secret == ""


def test_slurm() -> None:
    """Tasks are numbered host by host, and those of one host have consecutive ports."""
    found = [read_cluster(step(rank, 5, "n[9-10],x", "2(x2),1"), 7000) for rank in range(5)]
    assert found[0].addresses == ("n9:7000", "n9:7001", "n10:7000", "n10:7001", "x:7000")
    assert [cluster.index for cluster in found] == [0, 1, 2, 3, 4]


def test_tf_config_wins_over_slurm() -> None:
    """TF_CONFIG takes precedence, since a user who sets it in a job step does so on purpose."""
    assert read_cluster({**step(0, 1, "x", "1"), **config()}, 8888).addresses == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}, "lacks SLURM_STEP_NUM_TASKS"),
        (step(3, 3, "a", "3"), "are inconsistent"),
        (step(0, 3, "a", "2"), "are inconsistent"),
        (step(0, 2, "a,b", "2"), "are inconsistent"),
        (step(0, 2, "a[1-", "2"), "are inconsistent"),
        (step(0, 2, "a", "x"), "are inconsistent"),
        (step(1, 4, "a,b", "2(x2)", SLURM_NODEID="1", SLURM_LOCALID="0"), "--distribution=block"),
    ],
)
def test_wrong_slurm(environment: dict[str, str], text: str, refused: Any) -> None:
    """Tasks in another order than host by host would get wrong addresses and are refused."""
    with refused(UsageError) as caught:
        read_cluster(environment, 8888)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a", ["a"]),
        ("a,b-c.d", ["a", "b-c.d"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12],m", ["n08", "n09", "n10", "n12", "m"]),
        ("r[1-2]n[5,7]-ib", ["r1n5-ib", "r1n7-ib", "r2n5-ib", "r2n7-ib"]),
    ],
)
def test_expand_hosts(text: str, hosts: list[str]) -> None:
    """Host lists are expanded as by `scontrol show hostnames`."""
    assert expand_hosts(text) == hosts


def test_expand_counts() -> None:
    """Counts are expanded as in Slurm's manual of SLURM_TASKS_PER_NODE."""
    assert expand_counts("2(x3),1") == [2, 2, 2, 1]


def test_addresses() -> None:
    """IPv6 addresses have brackets in TF_CONFIG, and none for the system."""
    assert read_cluster(config(["[::1]:5", "b:2"]), 1).addresses[0] == "[::1]:5"
    assert split_address("[::1]:5") == ("::1", 5)
