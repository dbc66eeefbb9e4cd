"""Write docs/api.md from the source of the public Python API. `--check` only compares.

The source is parsed instead of imported, so TensorFlow is not loaded.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from generated_page import items, prose, write_or_check

ROOT = Path(__file__).parents[1]

WIDTH = 120
"""Line length of the formatter, which also formats code in Markdown."""

SECTIONS = {
    "Training": (
        "aipcore",
        "Training and resuming from Python; see [Train from Python](howto/train-from-python.md). [Applying "
        "models](#applying-models) describes `Predictor`. TensorFlow is imported on first use.",
        {
            "training/train.py": ["train"],
            "training/resume.py": ["resume"],
            "training/trainer.py": ["Trainer"],
            "training/reporter.py": ["TrainResult", "Reporter"],
        },
    ),
    "Scenarios": (
        "aipcore.scenario",
        "Data, model and loss; see [Write a scenario](howto/write-a-scenario.md). `params_class` and its groups are "
        "[parameter](#parameters) classes.",
        {
            "scenario/scenario.py": ["Scenario"],
            "scenario/list_file.py": ["ListFileScenario", "matching_files"],
            "scenario/tables.py": ["read_columns"],
            "scenario/class_weights.py": ["adapted_classes"],
            "scenario/updates.py": ["Update", "TargetNetwork"],
            "scenario/evaluator.py": ["Evaluator"],
            "scenario/ctc.py": ["ctc_loss"],
        },
    ),
    "Samples and processors": (
        "aipcore.scenario",
        "The samples of a scenario and their processing; see [Data](data.md).",
        {
            "data/sample.py": ["Sample", "SampleBatch", "ColumnSpec"],
            "data/processor.py": ["Mode",
                "Processor", "RandomProcessor", "RandomBatchProcessor", "GeneratingProcessor", "PostProcessor"],
        },
    ),
    "Images, histograms and PR curves": (
        "aipcore.scenario",
        "The return values of `Scenario.summaries`; see [TensorBoard](tensorboard.md).",
        {"scenario/summaries.py": ["Image", "ImageGrid", "Histogram", "PRCurve", "Summary"]},
    ),
    "Parameters": (
        "aipcore.plugin",
        "Declaration of parameter classes. `aipcore.plugin` and `aipcore.params` both provide all of these names.",
        {
            "params/declare.py": ["params", "field", "group", "component", "components", "Choice", "REQUIRED"],
            "params/checks.py": ["Check", "above", "at_least", "between", "fraction", "regex"],
        },
    ),
    "Parameter groups of a scenario": (
        "aipcore.scenario",
        "Base classes of an author's own groups. Their fields are listed under "
        "[parameters](parameters.md#every-scenario).",
        {
            "scenario/params.py": ["ScenarioParams", "DataParams", "ModelParams"],
            "scenario/list_file.py": ["ListFileParams", "ListFileData"],
        },
    ),
    "Base classes for plugins": (
        "aipcore.plugin",
        "The hook marker, and the base classes of plugin parameters. [Hooks](hooks.md) describes the records of "
        "plugins.",
        {
            "hooks/records.py": [
                "hookimpl", "API_VERSION", "OptimizerParams", "ScheduleParams", "CallbackParams", "ExporterParams",
            ],
        },
    ),
    "Arguments of plugins": (
        "",
        "The arguments of `build` and of the object that it returns.",
        {
            "training/engine/learning_rate.py": ["Horizon", "ScaledSchedule"],
            "training/callbacks/context.py": ["RunContext", "RunEvents"],
            "training/callbacks/model_probe.py": ["RunProbe"],
            "training/callbacks/callback_list.py": ["RunEnd"],
            "data/dataset.py": ["Batch"],
            "training/export/saved_model.py": ["Exportable", "ServedModule"],
            "scenario/model.py": ["Graph"],
            "training/export/formats.py": ["refuse_precisions", "refuse_strings"],
            "data/random.py": ["BatchRandom"],
        },
    ),
    "Applying models": (
        "aipcore.prediction",
        "Trained models in your own program; see [Applying models](prediction.md).",
        {
            "prediction/predictor.py": ["Predictor", "Prediction"],
            "prediction/saved_predictions.py": ["read_predictions"],
            "training/warmstart/readers.py": ["read_variables"],
        },
    ),
    "The data pipeline without a scenario": (
        "aipcore.data.pipeline",
        "Data sources and processors; see [Data](data.md#without-a-scenario).",
        {"data/pipeline.py": ["Pipeline"]},
    ),
    "Tests for plugins": (
        "aipcore.testing",
        "The conformance kit; see [Testing a plugin](testing-plugins.md).",
        {
            "testing/__init__.py": ["parametrize_checks"],
            "testing/runner.py": ["run_checks"],
            "testing/results.py": ["CheckResult"],
            "testing/declaration.py": ["Declaration", "GoldenSteps"],
            "testing/registry.py": ["ConformanceCheck", "all_checks", "checks_of"],
        },
    ),
    "Errors": (
        "aipcore.errors",
        "The errors that aip raises on purpose. The command line prints only the message and exits with `exit_code`.",
        {
            "errors.py": [
                "AipError", "UsageError", "ParamsError", "PluginError", "ScenarioError", "DataError", "TrainingError",
                "FormatError",
            ]
        },
    ),
}  # fmt: skip
"""From each heading to the module to import from, an introduction, and the names by defining file."""

HEAD = """# Python API

The public names for programs, scenarios and plugins, by purpose. This page is made by `make docs` from the docstrings.
All other names are internal and may change in any version.
"""


def reference() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for title, (module, introduction, files) in SECTIONS.items():
        parts.append(f"## {title}\n\n{introduction}\n")
        if module:
            names = [name for group in files.values() for name in group]
            parts.append(f"```python\n{_import(module, names)}\n```\n")
        for file, names in files.items():
            tree = ast.parse((ROOT / "aipcore" / file).read_text(encoding="utf-8"))
            found = {name: (node, doc) for name, node, doc in _definitions(tree)}
            for name in names:
                if name not in found:
                    raise SystemExit(f"aipcore/{file} does not define {name}. Fix SECTIONS in docs/make_api.py.")
                parts.append(_entry(name, *found[name], tree))
    return "\n".join(parts)


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, str]]:
    """Yield each name that a module defines, with its docstring, which follows a variable."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            if isinstance(target, ast.Name):
                yield target.id, node, str(text)


def _entry(name: str, node: ast.stmt, doc: str, tree: ast.Module) -> str:
    if not doc:
        raise SystemExit(f"{name} is in docs/api.md but has no docstring.")
    if isinstance(node, ast.FunctionDef):
        return f"### `{name}`\n\n```python\n{_signature(node)}\n```\n\n{prose(doc)}"
    if not isinstance(node, ast.ClassDef):
        return f"### `{name}`\n\n{prose(doc)}"
    _require_attributes(name, node, doc)
    bases = [ast.unparse(base) for base in node.bases if not ast.unparse(base).startswith("_")]
    parts = [f"### `{name}`\n"]
    if bases:
        parts.append(f"Extends {', '.join(f'`{base}`' for base in bases)}.\n")
    parts.append(prose(doc))
    members = list(_members(node, tree, name))
    if members:
        parts.append("\n".join(members))
    return "\n".join(parts)


def _require_attributes(name: str, node: ast.ClassDef, doc: str) -> None:
    """Stop if a field of a record is not in its docstring. The fields of parameter classes have their own help."""
    if any(ast.unparse(each) == "params" for each in node.decorator_list):
        return
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each)]
    for field in (ast.unparse(each.target) for each in fields):
        if not field.startswith("_") and not re.search(rf"^ *(\w+, )*{field}(, \w+)*: ", doc, re.MULTILINE):
            raise SystemExit(f"{name}.{field} is in docs/api.md but not in the docstring of {name}.")


def _members(node: ast.ClassDef, tree: ast.Module, owner: str) -> Iterator[str]:
    """Yield the public methods and properties of a class and of its private bases."""
    for base in node.bases:
        private = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == ast.unparse(base)]
        for each in private:
            if each.name.startswith("_"):
                attributes = (ast.get_docstring(each) or "").partition("Attributes:\n")[2]
                # They continue the list of the class's own attributes.
                heading = "" if "Attributes:\n" in (ast.get_docstring(node) or "") else "**Attributes**\n\n"
                yield f"{heading}{items(inspect.cleandoc(chr(10) + attributes))}\n"
                yield from _members(each, tree, owner)
    for each in node.body:
        if not isinstance(each, ast.FunctionDef) or each.name.startswith("_"):
            continue
        doc = ast.get_docstring(each)
        if not doc:
            raise SystemExit(f"{node.name}.{each.name} is in docs/api.md but has no docstring.")
        yield f"#### `{owner}.{each.name}`\n\n```python\n{_signature(each)}\n```\n\n{prose(doc)}"


def _signature(node: ast.FunctionDef) -> str:
    """Return the signature of a function, with one argument per line if it is long."""
    kinds = [ast.unparse(each) for each in node.decorator_list]
    head = "".join(f"@{kind}\n" for kind in kinds if kind in ("property", "classmethod", "staticmethod"))
    returns = (f" -> {ast.unparse(node.returns)}" if node.returns else "") + ": ..."
    arguments = _arguments(node.args)
    line = f"def {node.name}({', '.join(arguments)}){returns}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){returns}"
    return head + line


def _arguments(args: ast.arguments) -> list[str]:
    """Return the arguments as text."""
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + [*args.defaults]
    written = [_argument(each, default) for each, default in zip(plain, defaults, strict=True)]
    if args.vararg:
        written.append(f"*{_argument(args.vararg, None)}")
    elif args.kwonlyargs:
        written.append("*")
    written += [_argument(each, default) for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        written.append(f"**{_argument(args.kwarg, None)}")
    return written


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    return text if default is None else f"{text} = {ast.unparse(default).replace(chr(39), chr(34))}"


if __name__ == "__main__":
    sys.exit(write_or_check(Path(__file__).parent / "api.md", reference()))
