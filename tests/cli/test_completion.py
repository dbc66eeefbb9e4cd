"""Shell completion of scenarios, options of the selection and names of components, without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import atexit, os, sys
atexit.register(lambda: print("IMPORTED", *sorted({"tensorflow", "keras", "numpy", "grain"} & set(sys.modules))))
from aipcore.cli.main import main
sys.exit(main())
"""


def complete(folder: Path, line: str) -> list[str]:
    """Return the completions of a line, whose last word is being typed."""
    environment = {
        **os.environ,
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "_AIP_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    output, _, imported = done.stdout.rpartition("IMPORTED")
    assert not imported.split()
    assert done.stderr == ""
    return output.split()


EARLY_STOPPING = ("n_to_go", "min_delta", "frequency", "lower_threshold", "upper_threshold")

CASES = {
    "aip tr": {"plain,train"},
    "aip train tuto": {"plain,tutorial", "file,"},
    "aip train tutorial --optimizer ada": {"plain,Adam", "plain,AdamW", "plain,Adamax", "plain,AdaBelief"},
    "aip train tutorial --optimizer sgd --optimizer.m": {"plain,--optimizer.momentum"},
    "aip train tutorial --optimizer.m": set(),
    "aip train tutorial --model.graph c": {"plain,CNN"},
    "aip train tutorial --trainer.jit_compile o": {"plain,on", "plain,off"},
    "aip train tutorial --train.shuffle ": {"plain,True", "plain,False"},
    "aip train tutorial --trainer.output_dir ": {"file,"},
    "aip train tutorial --params ": {"file,"},
    "aip train tutorial --js": {"plain,--json-log"},
    "aip params tutorial --format j": {"plain,json"},
    "aip sweep tuto": {"plain,tutorial", "file,"},
    "aip sweep tutorial --sampler ": {"plain,tpe", "plain,random", "plain,grid"},
    "aip sweep tutorial --sampler tpe --optimizer adab": {"plain,AdaBelief"},
    "aip sweep tutorial --see": {"plain,--seed"},
    "aip train tutorial --trainer.epochs x --optimizer.amsg": {"plain,--optimizer.amsgrad"},
    "aip train nonsense --opt": set(),
    "aip train tutorial --early_stopping.": {f"plain,--early_stopping.{name}" for name in EARLY_STOPPING},
    "aip train tutorial --early_stopping.pa": {"plain,--early_stopping.patience"},
    "aip train tutorial --trainer.run_eagerly ": {"plain,True", "plain,False"},
    "aip train tutorial --help early": {"plain,early_stopping"}
    | {f"plain,early_stopping.{name}" for name in EARLY_STOPPING},
    "aip train tutorial --help al": {"plain,all"},
    "aip train tutorial --help data --epo": set(),
    "aip benchmark-input-pipeline tuto": {"plain,tutorial", "file,"},
    "aip plugins show adab": {"plain,AdaBelief"},
    "aip plugins check adam cosi": {"plain,CosineDecay"},
    "aip plugins show --kind schedule c": {"plain,Constant", "plain,CosineDecay"},
    "aip resume ": {"dir,"},
    "aip resume r": {"dir,"},
    "aip lav ": {"dir,"},
    "aip lav model --d": {"plain,--dump"},
    "aip lav model ": {"dir,"},
    "aip export model ": set(),
    "aip export model --gr": {"plain,--graph"},
    "aip lav --dump ": {"file,"},
    "aip predict model ": {"dir,"},
    "aip evaluate ": {"file,"},
    "aip export model --format k": {"plain,Keras"},
    "aip launch --workers 2 t": {"plain,train"},
    "aip launch --workers 2 train tuto": {"plain,tutorial", "file,"},
    "aip launch --workers 2 train tutorial --optimizer.m": set(),
    "aip launch --workers 2 train tutorial --optimizer sgd --optimizer.m": {"plain,--optimizer.momentum"},
}


@pytest.mark.parametrize("line", CASES)
def test_completions(tmp_path: Path, line: str) -> None:
    """Words that are wrong or incomplete do not prevent completions after them."""
    assert set(complete(tmp_path, line)) == CASES[line]


def test_completions_for_a_run(tmp_path: Path) -> None:
    """A run folder determines the parameters and components; a foreign scenario is not imported."""
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.params import Layer, resolve, to_dict
    from aipcore.training.params import run_params_class

    plugins = get_plugin_manager()
    found = plugins.find_scenario("tutorial")
    assert found is not None
    root = run_params_class(found[1].params_class)
    resolved = resolve(root, [Layer.from_arguments(["--optimizer", "sgd", "--model.graph", "CNN"])], plugins)
    params = to_dict(resolved.value)
    scenario = {"name": "tutorial", "kind": "plugin", "reference": "tutorial", "folder": str(tmp_path)}
    about = {"format": 1, "scenario": scenario, "params": params, "signature": {"inputs": {}, "outputs": {}}}
    for folder in ("run", "model/variables"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").touch()
    (tmp_path / "run" / "run.json").write_text(json.dumps(about), encoding="utf-8")
    (tmp_path / "run" / "params.json").write_text(json.dumps(params), encoding="utf-8")
    (tmp_path / "model" / "aip.json").write_text(json.dumps(about), encoding="utf-8")
    assert complete(tmp_path, "aip resume run --optimizer.mo") == ["plain,--optimizer.momentum"]
    assert complete(tmp_path, "aip resume run --model.graph.fi") == ["plain,--model.graph.filters"]
    assert complete(tmp_path, "aip lav model --val.ba") == ["plain,--val.batch_size"]
    assert complete(tmp_path, "aip lav model --optimizer") == []
    evil = {**about, "scenario": {**scenario, "kind": "file", "reference": str(tmp_path / "evil.py:Evil")}}
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (tmp_path / "run" / "run.json").write_text(json.dumps(evil), encoding="utf-8")
    assert complete(tmp_path, "aip resume run --tr") == ["plain,--trust"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    """Each script calls `aip`, and its shell can parse it, if installed."""
    command = [
        sys.executable,
        "-c",
        "import sys; from aipcore.cli.main import main; sys.exit(main())",
        "completion",
        shell,
    ]
    script = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"_AIP_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        option = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}[shell]
        assert subprocess.run([shell, option], input=script, text=True, check=False).returncode == 0
