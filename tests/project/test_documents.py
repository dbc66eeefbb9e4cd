"""The documents agree with the code: generated pages are current, commands work, links resolve."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import forks
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script(name: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts in docs/."""
    return subprocess.run(
        [sys.executable, DOCS / f"{name}.py", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=1800, cwd=cwd,
    )  # fmt: skip


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return one of the scripts in docs/ as a module."""
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def loaded(name: str) -> ModuleType:
    """Return one of the scripts in docs/ that imports no other one, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


PAGES = loaded("page_blocks").pages()


@pytest.mark.parametrize("name", ["reference", "commands", "hooks", "api", "parity", "hints"])
def test_generated_pages_are_current(name: str) -> None:
    """Each generated page equals the output of `make docs`."""
    done = forks.run([sys.executable, DOCS / f"make_{name}.py", "--check"])
    assert done.returncode == 0, "a page is not up to date: run `make docs`"


def test_command_lines_of_all_pages() -> None:
    """Every `aip` line exists with its options, and every block is of a known kind, as checked without TensorFlow."""
    done = script("check_blocks")
    assert done.returncode == 0, done.stderr


MISTAKES = {
    "an option": ("```console\naip train tutorial --trainer.epoch 3\n```", "--trainer.epoch"),
    "a value": ("```console\naip train tutorial --trainer.epochs x\n```", "--trainer.epochs: x"),
    "a component": ("```console\naip train tutorial --optimizer adamm\n```", "adamm"),
    "an option of a component": ("```console\naip train tutorial --optimizer.rho 1\n```", "belongs to RMSprop"),
    "a command": ("```console\naip trian tutorial\n```", "trian"),
    "an option of a command": ("```console\naip plugins list --knd x\n```", "--knd"),
    "an option of the run": ("```console\naip resume runs/tutorial-1 --model.graph.unit 3\n```", "--model.graph.unit"),
    "an option inline": ("Give `aip train tutorial --trainer.epoch 3`.", "--trainer.epoch"),
    "an option that is not run": ("<!-- not run: x -->\n```console\naip train tutorial --x 3\n```", "--x"),
    "a kind of block": ("```\naip train tutorial\n```", "the language none"),
    "syntax": ("```python\ndef f(:\n```", "invalid syntax"),
    "an excerpt": ("<!-- excerpt of pyproject.toml -->\n```toml\nname = 'x'\n```", "is not in pyproject.toml"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_in_pages_are_found(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of command lines detects mistakes."""
    text, found = MISTAKES[what]
    page = tmp_path / "page.md"
    page.write_text(text + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    checker = module("check_blocks", monkeypatch)
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("name = 'y'\n", encoding="utf-8")
    (wrong,) = checker.check_page(page)
    assert found in wrong


def test_failing_pages_fail(tmp_path: Path) -> None:
    """Other output than shown is an error, and so is a command that should fail and does not."""
    page = tmp_path / "page.md"
    for text, said in {
        "```console\n$ aip params tutorial --optimizer.rho 1\nerror: something else\n```": "prints other text",
        "```console\n$ aip --version\nerror: no\n```": "exited with 0",
        "```console\naip params nonsense\n```": "exited with 2",
        "```console\n$ aip params tutorial\nno such line\n```": "prints other text",
        "```python\nx = 1\nassert x == 2\n```": "AssertionError",
    }.items():
        page.write_text(text + "\n", encoding="utf-8")
        done = script("run_blocks", page)
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.parametrize(
    ("shown", "said", "exact", "same"),
    [
        ("epoch 1  loss 0.5", "x\nepoch 1   loss 12.25e-3\ny", False, True),
        ("a\n...\nc", "a\nb\nc", False, True),
        ("c\na", "a\nb\nc", False, False),
        ("a ... z", "a b z", False, True),
        ("error: x 1", "error: x 1\n", True, True),
        ("error: x 1", "error: x 2\n", True, False),
    ],
)
def test_comparing_output(shown: str, said: str, exact: bool, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are compared exactly; in other output, numbers may differ and lines be omitted, in the same order."""
    assert module("run_blocks", monkeypatch).matches(shown, said, exact=exact) is same


def test_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is on the page of examples, and each curve there is a small picture of a run."""
    gallery = module("make_gallery", monkeypatch)
    text = gallery.PAGE.read_text(encoding="utf-8")
    examples = ROOT / "examples"
    files = [path for path in examples.rglob("*.py") if "Scenario" in path.read_text(encoding="utf-8")]
    names = {path.relative_to(ROOT).parts[1] for path in files if path.parent == examples or "src" in path.parts}
    assert {name for name in names if f"../examples/{name}" not in text} == set()
    found = gallery.pictures()
    assert len(found) > 20
    for name, commands in found.items():
        assert any(command.startswith("aip train ") for command in commands), name
        picture = (DOCS / "images" / "gallery" / f"{name}.svg").read_text(encoding="utf-8")
        assert len(picture) < 12_000
        assert "<polyline" in picture
        assert 'class="aip-figure"' in picture
    shown = " ".join(command for commands in found.values() for command in commands)
    assert [path.name for path in examples.glob("*.py") if path in files and f"examples/{path.name}" not in shown] == []


def test_figures_take_the_colors_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure is part of its page on the site, and any other picture stays a picture."""
    pytest.importorskip("mkdocs", reason="mkdocs is in the extra docs")
    hooks = module("site_hooks", monkeypatch)
    for name, inserted in {"data-flow": True, "train": False}.items():
        image = hooks.FIGURE.fullmatch(f'<img alt="x" src="images/{name}.svg" width="900" />')
        assert hooks._figure(image, DOCS).startswith("<svg" if inserted else "<img")


def test_extras_are_documented() -> None:
    """The page on installation has a row for each extra that a user of aip may need."""
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name for name in extras if name not in DEVELOPMENT and f"`{name}`" not in text] == []


DEVELOPMENT = {"test", "docs", "bench", "check"}
"""Extras for the development of aip itself."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_run(page: Path) -> None:
    """The blocks of each page run in order in a new folder with the documented results."""
    done = forks.run([sys.executable, DOCS / "run_blocks.py", page], timeout=1800, children=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_first_plugin_takes_few_commands() -> None:
    """Fewer than ten commands lead from nothing to a check, training and removal; `test_pages_run` runs them."""
    blocks = loaded("page_blocks").blocks(DOCS / "howto" / "first-plugin.md")
    commands = [command.text for block in blocks if block.language == "console" for command in block.commands()]
    assert commands[0].startswith("aip plugins new ")
    assert any(text.startswith("aip plugins check ") for text in commands)
    assert len(commands) < 10
    assert not any("not run" in block.notes for block in blocks)


def test_reasons_for_not_running() -> None:
    """A block that is not run gives the reason."""
    pages = loaded("page_blocks")
    for page in PAGES:
        for block in pages.blocks(page):
            assert len(block.notes.get("not run", "a reason here").split()) >= 3, f"{page}:{block.line}"


@pytest.mark.parametrize("name", ["scenario", "prediction", "testing", "plugin"])
def test_api_is_complete(name: str) -> None:
    """The public names of the packages for authors are in docs/api.md, or among the records of docs/hooks.md."""
    text = (DOCS / "api.md").read_text(encoding="utf-8") + (DOCS / "hooks.md").read_text(encoding="utf-8")
    source = (ROOT / "aipcore" / name).with_suffix(".py")
    source = source if source.exists() else ROOT / "aipcore" / name / "__init__.py"
    offered = re.findall(r'"(\w+)",', source.read_text(encoding="utf-8").partition("__all__ = [")[2].partition("]")[0])
    assert [each for each in offered if not re.search(rf"`{each}`", text)] == [], "add these to docs/make_api.py"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as Markdown generates them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading)
        name = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
        found.append(name if name not in found else f"{name}_{found.count(name)}")
    return set(found)


def test_links_resolve() -> None:
    """Every relative link of the README and the documents exists, with its anchor."""
    for page in [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://|mailto:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.relative_to(ROOT)}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: {link}"


def test_files_in_sentences_exist() -> None:
    """A file or folder of this repository that a sentence names exists."""
    missing = set()
    for page in [ROOT / "README.md", *PAGES]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`((?:aipcore|benchmarks|docs|examples|plugins|tests)/[\w./-]+)`", text):
            if not (ROOT / name).exists():
                missing.add((page.name, name))
    assert not missing


def test_options_in_sentences_exist() -> None:
    """An option in a sentence or table is a parameter, a group of them, or an option of a command."""
    known = set(re.findall(r"`(--[\w.-]+)", (DOCS / "parameters.md").read_text(encoding="utf-8")))
    known |= {option.replace("_", "-") for option in known}
    known |= set(re.findall(r"(?<=[`\s])--?[\w-]+", (DOCS / "commands.md").read_text(encoding="utf-8")))
    groups = {option.rpartition(".")[0] for option in known}
    strange = set()
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for option in re.findall(r"`(--[a-z][\w.-]*[\w])", text):
            short = option.replace("--trainer.", "--")
            if not {option, short} & known and option not in groups:
                strange.add((page.name, option))
    assert strange <= OTHERS


OTHERS = {
    # Options of graphs that are not the default.
    ("fine-tune-pretrained.md", "--model.graph.preset"),
    ("fine-tune-pretrained.md", "--model.graph.lora_rank"),
    ("fine-tune-pretrained.md", "--model.graph.gradient_checkpointing"),
    ("fine-tune-pretrained.md", "--model.graph.network"),
    ("fine-tune-pretrained.md", "--model.graph.weights"),
    ("scale.md", "--distribution"),
    ("scale.md", "--gpus-per-task"),
    ("callbacks.md", "--callbacks.NAME.OPTION"),
    ("devices.md", "--cpu"),
    ("reliability.md", "--list"),
    ("reliability.md", "--only"),
    # `aip export` has the options of the given format.
    ("prediction.md", "--format.batch_size"),
}
"""Options of other programs, of plugins that a page makes, and of commands that depend on another word, by page."""


def test_every_hook_is_documented_used_and_tested() -> None:
    """Each hook is in the tables of plugins and hooks, and has a built-in plugin and a test that implements it."""
    from aipcore.hooks import specs
    from aipcore.hooks.manager import get_plugin_manager

    tables = [(DOCS / name).read_text(encoding="utf-8") for name in ("plugins.md", "hooks.md")]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    hooks = [name for name in vars(specs) if name.startswith("aip_")]
    assert len(hooks) == 7
    for hook in hooks:
        assert all(f"`{hook}`" in table for table in tables)
        kind = hook.removeprefix("aip_").removesuffix("s")
        assert kind == "command" or get_plugin_manager().of_kind(kind)
        assert f"def {hook}(" in tests, f"no test has a plugin that implements {hook}"


PREDECESSOR = {
    "trainer": (
        "output_dir",
        "epochs",
        "samples_per_epoch",
        "scale_epoch_size",
        "accumulate_steps",
        "random_seed",
        "force_eager",
        "val_every_n",
        "lav_every_n",
        "lav_min_epoch",
        "write_checkpoints",
        "export_best",
        "export_final",
        "profile",
        "profile_steps",
        "no_train_scope",
        "calc_ema",
        "precision",
    ),
    "learning_rate": ("lr", "offset_epochs", "decay", "staircase"),
    "": (
        "ExponentialDecay",
        "Constant",
        "CosineDecay",
        "WarmupCosineDecay",
        "WarmupConstantCosineDecay",
        "WarmupDecay",
        "Adam",
        "Adamax",
        "AdaBelief",
        "RMSprop",
        "SGD",
        "LAMB",
        "none",
        "mirror",
        "central_storage",
        "multi_worker",
        "CUDA_VISIBLE_DEVICES",
        "AIP_LOG_LEVEL",
        "train.batch_size",
        "train.lists",
        "val.lists",
        "lav.lists",
        "train.preload",
        "ListFileScenario",
        "checkpoint",
        "best",
        "export",
        "train.log",
    ),
    "optimizer": ("clip_value", "clip_norm", "clip_global_norm", "weight_decay", "exclude_from_weight_decay"),
    "warmstart": (
        "model",
        "allow_partial",
        "rename",
        "rename_targets",
        "include",
        "exclude",
        "trim_graph_name",
        "add_suffix",
    ),
    "device": ("gpus", "memory_growth", "strategy"),
    "early_stopping": ("n_to_go", "frequency", "lower_threshold", "upper_threshold"),
}
"""What users of the predecessor look for, by the names that it has here, by group."""


TFAIP = """
epochs current_epoch samples_per_epoch scale_epoch_size train_accum_steps progress_bar_mode progbar_delta_time
tf_cpp_min_log_level force_eager skip_model_load_test export_training_graph_path val_every_n lav_every_n lav_silent
lav_min_epoch output_dir write_checkpoints export_best export_final no_train_scope ema_decay random_seed profile
profile_steps device optimizer learning_rate scenario warmstart early_stopping gen preload_data
preload_data_progress_bar checkpoint_sub_dir checkpoint_save_freq clip_norm clip_value global_clip_norm momentum
nesterov weight_decay beta_1 beta_2 epsilon rho centered rectify amsgrad sma_threshold total_steps warmup_proportion
min_lr exclude_from_weight_decay exclude_from_layer_adaptation lr step_function offset_epochs learning_circle
lr_decay_rate decay_min_fraction alpha final_epochs warmup_epochs warmup_factor constant_epochs warmup_steps model
allow_partial trim_graph_name rename add_suffix rename_targets exclude include auto_remove_numbers_for gpus
gpu_auto_tune gpu_memory soft_device_placement dist_strategy n_to_go frequency lower_threshold upper_threshold
best_model_output_dir best_model_name batch_size limit prefetch num_processes batch_drop_remainder shuffle_buffer_size
bucket_boundaries bucket_batch_sizes use_shared_memory lists list_ratios ignore_prefix files batch_bins shape_files
predictor_params generator pre_proc post_proc resource_base_path run_parallel num_threads max_tasks_per_process
processors pipelines modes voter post_processors pipeline model_path print_samples silent store_results progress_bar
run_eagerly include_targets include_meta debug_graph_n_examples print_eval_limit tensorboard_logger_history_size
export_serve data evaluator export_net_config net_config_filename default_serve_dir additional_serve_dir
trainer_params_filename scenario_params_filename scenario_base_path scenario_id id tfaip_commit_hash tfaip_version
use_input_gradient_regularization input_gradient_regularization_h input_gradient_regularization_lambda
"""
"""The fields of tfaip's parameter classes that a user could set or find in a file."""


def test_every_option_of_the_predecessor_has_a_row() -> None:
    """Every option is in the first column of a table under "Options"."""
    text = (DOCS / "coming-from-tfaip.md").read_text(encoding="utf-8")
    options = text[text.index("\n## Options\n") : text.index("\n## Files of a run\n")]
    first = " ".join(line.split(" | ")[0] for line in options.splitlines() if line.startswith("| "))
    named = set(re.findall(r"`([^`]+)`", first))
    assert [name for name in TFAIP.split() if name not in named] == []


def test_users_of_the_predecessor_find_all_they_had() -> None:
    """docs/coming-from-tfaip.md has every option, component, folder and command."""
    text = (DOCS / "coming-from-tfaip.md").read_text(encoding="utf-8")
    names = {part for span in re.findall(r"`([^`]+)`", text) for part in re.split(r"[\s=,]+", span.replace("--", ""))}
    for group, members in PREDECESSOR.items():
        for name in members:
            assert (f"{group}.{name}" if group else name) in names
    for command in (
        "train",
        "resume",
        "lav",
        "predict",
        "evaluate",
        "export",
        "benchmark-input-pipeline",
        "plugins",
        "params",
    ):
        assert f"`aip {command} " in text


KERAS_ROWS = {
    "Model.compile": ("trainers/trainer.py", "Trainer", "compile"),
    "Model.fit": ("trainers/trainer.py", "Trainer", "fit"),
    "Model.evaluate": ("trainers/trainer.py", "Trainer", "evaluate"),
    "Model.predict": ("trainers/trainer.py", "Trainer", "predict"),
    "Optimizers": ("optimizers/base_optimizer.py", "BaseOptimizer", "__init__"),
}
"""By section of docs/coming-from-keras.md: where Keras defines what its rows are about."""

TF_DATA = """from_tensor_slices from_generator list_files TextLineDataset map filter flat_map shuffle batch padded_batch
bucket_by_sequence_length repeat take cache prefetch shard zip drop_remainder num_parallel_calls"""


def keras_names() -> dict[str, list[str]]:
    """Return the names that need rows, parsed from the source of Keras, whose import takes seconds."""
    (folder,) = importlib.util.find_spec("keras").submodule_search_locations  # type: ignore[union-attr]
    found = {"tf.data": TF_DATA.split()}
    for section, (file, cls, method) in KERAS_ROWS.items():
        tree = ast.parse((Path(folder) / "src" / file).read_text(encoding="utf-8"))
        (made,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == cls]
        (function,) = [each for each in made.body if isinstance(each, ast.FunctionDef) and each.name == method]
        found[section] = [each.arg for each in [*function.args.args, *function.args.kwonlyargs] if each.arg != "self"]
    tree = ast.parse((Path(folder) / "callbacks" / "__init__.py").read_text(encoding="utf-8"))
    found["Callbacks"] = [each.name for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names]
    return found


def test_arguments_of_keras_have_rows() -> None:
    """Each argument and callback of Keras is in its section, and its counterpart in aip exists."""
    import click

    from aipcore.cli.main import app
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.params.tree import Leaf, build_tree, find, owners
    from aipcore.scenario import Scenario
    from aipcore.scenario import __all__ as exported
    from aipcore.scenario.list_file import ListFileParams
    from aipcore.training.params import run_params_class

    plugins = get_plugin_manager()
    tree = build_tree(run_params_class(ListFileParams), plugins)
    commands = [app.get_command(click.Context(app), name) for name in ("train", "lav", "predict")]
    flags = {name for command in commands for option in command.params for name in option.opts}
    text = (DOCS / "coming-from-keras.md").read_text(encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        title = section.splitlines()[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")] if line.startswith("| ") else []
            if len(cells) < 2 or cells[0] == "Keras":
                continue
            rows.setdefault(title, []).extend(re.findall(r"`([^`]+)`", cells[0]))
            given = re.findall(r"`([^`]+)`", cells[1])
            assert given or cells[1] == "none", line
            for each in given:
                name, _, value = each.removeprefix("--").partition(" ")
                if each.startswith("--") and f"--{name}" not in flags:
                    node = find(tree, name)
                    assert node is not None or owners(tree, name), line
                    if value and not isinstance(node, Leaf):
                        assert value in plugins.names("callback"), line
                elif not each.startswith("--"):
                    known = hasattr(Scenario, each.removesuffix("()")) or each.rpartition(".")[2] in exported
                    assert known or each == "Predictor.load", line
    for title, names in keras_names().items():
        assert [name for name in names if name not in rows[title]] == [], title


def test_site(tmp_path: Path) -> None:
    """The site builds without a warning, has a page for every document, and loads nothing from elsewhere."""
    pytest.importorskip("material", reason="mkdocs-material is in the extra docs; `make check` builds the site too")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for page in DOCS.rglob("*.md"):
        built = (tmp_path / "site" / page.relative_to(DOCS)).with_suffix(".html")
        assert built.is_file()
        assert "fonts.googleapis.com" not in built.read_text(encoding="utf-8")
    for linked in ("examples/aip-plugin-lookahead", "examples/cluster/slurm.sh"):
        assert (tmp_path / "site" / "files" / f"{linked}.html").is_file()


def test_fault_table() -> None:
    """Each row of the fault table is a row of the script that causes the faults, in the same order."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--list"], capture_output=True, text=True, check=True
    )
    table = (ROOT / "docs" / "reliability.md").read_text().partition("These were tried by hand")[0]
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert names[2:] == done.stdout.splitlines()
    assert len(names) > 20
