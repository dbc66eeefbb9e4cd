"""Manifests for clusters (`aip launch --print`): valid, and with the words of the run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aipcore.distributed.cluster import read_cluster

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
RUN = ("train", "tutorial", "--trainer.output_dir")

SBATCH = """
account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container container-id
contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution
error exclude exclusive export export-file extra extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node
gpus-per-socket gpus-per-task gres gres-flags help hint hold ignore-pbs input job-name kill-on-invalid-dep licenses
mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue nodefile
nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output overcommit
oversubscribe parsable partition power prefer priority profile propagate qos quiet reboot requeue reservation segment
signal sockets-per-node spread-job stepmgr switches test-only thread-spec threads-per-core time time-min tmp
tres-per-task uid usage use-min-nodes verbose version wait wait-all-nodes wckey wrap
"""
"""The long options of sbatch in its manual page."""


FIELDS = """
Service: apiVersion=v1! kind! metadata:ObjectMeta! spec:ServiceSpec! status:any
ServiceSpec: allocateLoadBalancerNodePorts:bool clusterIP:str clusterIPs:str* externalIPs:str* externalName:str
 externalTrafficPolicy:str healthCheckNodePort:int internalTrafficPolicy:str ipFamilies:str* ipFamilyPolicy:str
 loadBalancerClass:str loadBalancerIP:str loadBalancerSourceRanges:str* ports:ServicePort* publishNotReadyAddresses:bool
 selector:strings sessionAffinity:str sessionAffinityConfig:any trafficDistribution:str type:str
ServicePort: appProtocol:str name:str nodePort:int port:int! protocol:str targetPort:any
ObjectMeta: annotations:strings creationTimestamp:str finalizers:str* generateName:str labels:strings name:name
 namespace:str ownerReferences:any
NetworkPolicy: apiVersion=networking.k8s.io/v1! kind! metadata:ObjectMeta! spec:NetworkPolicySpec!
NetworkPolicySpec: egress:any ingress:NetworkPolicyIngressRule* podSelector:LabelSelector policyTypes:str*
NetworkPolicyIngressRule: from:NetworkPolicyPeer* ports:any
NetworkPolicyPeer: ipBlock:any namespaceSelector:LabelSelector podSelector:LabelSelector
LabelSelector: matchExpressions:any matchLabels:strings
Job: apiVersion=batch/v1! kind! metadata:ObjectMeta! spec:JobSpec! status:any
JobSpec: activeDeadlineSeconds:int backoffLimit:int backoffLimitPerIndex:int completionMode:str completions:int
 managedBy:str manualSelector:bool maxFailedIndexes:int parallelism:int podFailurePolicy:any podReplacementPolicy:str
 selector:LabelSelector successPolicy:any suspend:bool template:PodTemplateSpec! ttlSecondsAfterFinished:int
PodTemplateSpec: metadata:ObjectMeta spec:PodSpec!
PodSpec: activeDeadlineSeconds:int affinity:any automountServiceAccountToken:bool containers:Container*! dnsConfig:any
 dnsPolicy:str enableServiceLinks:bool ephemeralContainers:any hostAliases:any hostIPC:bool hostNetwork:bool
 hostPID:bool hostUsers:bool hostname:str imagePullSecrets:any initContainers:Container* nodeName:str
 nodeSelector:strings os:any overhead:strings preemptionPolicy:str priority:int priorityClassName:str
 readinessGates:any resourceClaims:any resources:any restartPolicy:str runtimeClassName:str schedulerName:str
 schedulingGates:any securityContext:any serviceAccount:str serviceAccountName:str setHostnameAsFQDN:bool
 shareProcessNamespace:bool subdomain:name terminationGracePeriodSeconds:int tolerations:any
 topologySpreadConstraints:any volumes:Volume*
Container: args:str* command:str* env:EnvVar* envFrom:any image:str imagePullPolicy:str lifecycle:any livenessProbe:any
 name:name! ports:ContainerPort* readinessProbe:any resizePolicy:any resources:ResourceRequirements restartPolicy:str
 securityContext:any startupProbe:any stdin:bool stdinOnce:bool terminationMessagePath:str
 terminationMessagePolicy:str tty:bool volumeDevices:any volumeMounts:VolumeMount* workingDir:str
ContainerPort: containerPort:int! hostIP:str hostPort:int name:str protocol:str
EnvVar: name:str! value:str valueFrom:EnvVarSource
EnvVarSource: configMapKeyRef:any fieldRef:any resourceFieldRef:any secretKeyRef:SecretKeySelector
SecretKeySelector: key:str! name:name optional:bool
ResourceRequirements: claims:any limits:quantities requests:quantities
VolumeMount: mountPath:str! mountPropagation:str name:name! readOnly:bool recursiveReadOnly:str subPath:str
 subPathExpr:str
Volume: configMap:any csi:any emptyDir:EmptyDirVolumeSource ephemeral:any hostPath:any image:any name:name! nfs:any
 persistentVolumeClaim:PersistentVolumeClaimVolumeSource projected:any secret:any
EmptyDirVolumeSource: medium:str sizeLimit:str
PersistentVolumeClaimVolumeSource: claimName:name! readOnly:bool
"""
"""Fields of the objects in a manifest, after the reference of the Kubernetes API 1.37: `!` is required, `*` a list."""


def check(value: Any, kind: str, where: str) -> None:
    """Check an object of a manifest against `FIELDS`."""
    fields = {
        name: rest for name, _, rest in (line.partition(": ") for line in FIELDS.replace("\n ", " ").splitlines())
    }
    if kind.endswith("*"):
        assert isinstance(value, list), where
        for at, each in enumerate(value):
            check(each, kind[:-1], f"{where}[{at}]")
    elif kind in fields:
        known = {re.match(r"\w+", field)[0]: field for field in fields[kind].split()}
        assert set(value) <= set(known), where
        assert {name for name, field in known.items() if field.endswith("!")} <= set(value), where
        for name, each in value.items():
            field = known[name].removesuffix("!")
            if "=" in field:
                assert each == field.partition("=")[2], where
            elif ":" in field:
                check(each, field.partition(":")[2], f"{where}.{name}")
    elif kind in ("strings", "quantities"):
        assert all(type(each) is str or (type(each) is int and kind == "quantities") for each in value.values()), where
    elif kind != "any":
        assert type(value) is {"int": int, "bool": bool}.get(kind, str), where
        assert kind != "name" or re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", value), where


def options_of(script: str) -> dict[str, str]:
    """Return the options of sbatch in a script. They end with its first command."""
    head, _, rest = script.partition("\n\n")
    assert "#SBATCH" not in rest
    lines = [line.removeprefix("#SBATCH --") for line in head.splitlines() if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., tuple[list[str], dict[str, str]]]:
    """Return a function that runs a script with stand-ins for `aip` and `srun`: it returns their words and variables.

    Its arguments are the script and environment variables.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("aip", "srun"):
        (folder / name).write_text('#!/bin/bash\nenv -0\nprintf "words\\0"\nprintf "%s\\0" "$@"\n')
        (folder / name).chmod(0o755)

    def play(script: str, **environment: str) -> tuple[list[str], dict[str, str]]:
        environment |= {"PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-eu", "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
        )
        variables, _, words = done.stdout.partition("\0words\0")
        pairs = (each.partition("=") for each in variables.split("\0"))
        return words.split("\0")[:-1], {name: value for name, _, value in pairs}

    return play


@pytest.mark.parametrize("file", sorted(EXAMPLES.iterdir()), ids=lambda file: file.name)
def test_examples(fork_aip: Any, file: Path) -> None:
    """Each example is the output of the command that it names."""
    text = file.read_text()
    (made,) = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("# Made with: ")]
    done = fork_aip(*shlex.split(made)[1:])
    assert done.stderr == ""
    assert done.stdout == text
    for each in yaml.safe_load_all(text) if file.suffix == ".yaml" else ():
        check(each, each["kind"], each["kind"])


def test_kubernetes(fork_aip: Any, play: Any, tmp_path: Path) -> None:
    """The objects are valid, and each pod knows its place, starts the run and after a restart resumes it."""
    folder = tmp_path / "shared" / "It's_1"
    words = (*RUN, str(folder), "--model.graph", "a 'b' $c @@d")
    done = fork_aip("launch", "--workers", "3", "--print", "k8s", "--image", "repo/aip:1", *words)
    assert done.stderr == ""
    objects = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert list(objects) == ["Service", "NetworkPolicy", "Job"]
    for kind, each in objects.items():
        check(each, kind, kind)
    job = objects["Job"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["completions"], job["parallelism"], job["backoffLimit"]) == (3, 3, 30)
    assert (container["image"], container["resources"]) == ("repo/aip:1", {})
    assert container["volumeMounts"][0] == {"name": "runs", "mountPath": str(folder.parent)}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared"}
    name = objects["Job"]["metadata"]["name"]
    assert name == pod["subdomain"] == objects["Service"]["metadata"]["name"] == "aip-it-s-1"
    (script,) = container["args"]
    for index in range(3):
        found, variables = play(script, JOB_COMPLETION_INDEX=str(index))
        cluster = read_cluster({**variables, "AIP_CLUSTER_SECRET": "x" * 16}, 0)
        assert cluster.addresses == tuple(f"{name}-{n}.{name}:2222" for n in range(3))
        assert cluster.index == index
        assert found == [*words, "--device.strategy", "multi_worker"]
    folder.mkdir(parents=True)
    (folder / "params.json").touch()
    assert play(script, JOB_COMPLETION_INDEX="0")[0] == ["resume", str(folder)]


def test_slurm(fork_aip: Any, play: Any, tmp_path: Path) -> None:
    """The options are those of sbatch, and the tasks start the run, resume it, and share a new secret."""
    done = fork_aip("launch", "--workers=2", "--print=slurm", "--gpus=4", "--cpus=8", "--port-base=7000", *RUN, "a run")
    assert done.stderr == ""
    options = options_of(done.stdout)
    assert set(options) <= set(SBATCH.split())
    given = {"nodes": "2", "ntasks-per-node": "1", "gpus-per-node": "4", "cpus-per-task": "8", "job-name": "aip-a-run"}
    assert given.items() <= options.items()
    step = ["--kill-on-bad-exit=1", "--cpus-per-task=8", "aip"]
    words, first = play(done.stdout, SLURM_CPUS_PER_TASK="8")
    assert words == [*step, *RUN, "a run", "--device.strategy", "multi_worker", "--device.slurm_port", "7000"]
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "params.json").touch()
    words, second = play(done.stdout)
    assert words == [step[0], "aip", "resume", "a run"]
    secrets = {each["AIP_CLUSTER_SECRET"] for each in (first, second)}
    assert len(secrets) == 2
    assert {len(secret) for secret in secrets} == {64}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("resume", "runs/digits", "--trainer.epochs", "9"), ["resume", "runs/digits", "--trainer.epochs", "9"]),
        (("train", "mine.py", "--trainer.output_dir=r"), ["resume", "r", "--trust"]),
        (("train", "tutorial", "--trainer.output-dir", "r", "--url", "https://a"), ["resume", "r", "--trust"]),
    ],
)
def test_resumes(fork_aip: Any, play: Any, tmp_path: Path, words: tuple[str, ...], expected: list[str]) -> None:
    """A run is resumed with any number of processes, and with `--trust` if it names code or addresses."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "params.json").touch()
    found, _ = play(fork_aip("launch", "--workers", "2", "--print", "slurm", *words).stdout)
    strategy = ["--device.strategy", "multi_worker"] if words[0] == "resume" else []
    assert found[2:] == [*expected, *strategy]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--print", "k8s", *RUN, "/runs/a"), "Add --image IMAGE."),
        (("--print", "k8s", "--image", "i", *RUN, "runs/a"), "Use an absolute path such as /runs/digits."),
        (("--print", "slurm", "--image", "i", *RUN, "a"), "--image is only used with --print k8s."),
        (("--print", "slurm", "train", "tutorial"), "Add --trainer.output_dir DIR."),
        (("--print", "slurm", "resume"), "Write resume DIR."),
        (("--print", "slurm", *RUN, "a\nb"), "control characters"),
        (("--gpus", "2", *RUN, "a"), "--gpus is only used with --print"),
    ],
)
def test_wrong(fork_aip: Any, words: tuple[str, ...], text: str) -> None:
    """Options that do not fit are refused in one sentence, and nothing is printed."""
    done = fork_aip("launch", "--workers", "2", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
