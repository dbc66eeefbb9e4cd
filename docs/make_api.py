"""Writes docs/api.md from the source of what authors use in Python; `--check` only says whether it is up to date.

The source is parsed and not imported, so that this takes no TensorFlow.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from generated_page import items, prose, write_or_check

ROOT = Path(__file__).parents[1]

WIDTH = 120
"""Of a line of code, as the formatter has it, which formats code in Markdown too."""

SECTIONS = {
    "Training": (
        "aipcore",
        "Training and resuming from Python; see [Train from Python](howto/train-from-python.md). `Predictor` is among "
        "what [applies models](#applying-models). None of these imports TensorFlow before it is used.",
        {
            "training/train.py": ["train"],
            "training/resume.py": ["resume"],
            "training/trainer.py": ["Trainer"],
            "training/reporter.py": ["TrainResult", "Reporter"],
        },
    ),
    "Scenarios": (
        "aipcore.scenario",
        "What is learnt; see [Write a scenario](howto/write-a-scenario.md). `params_class` and its groups are classes "
        "of [parameters](#parameters).",
        {
            "scenario/scenario.py": ["Scenario"],
            "scenario/list_file.py": ["ListFileScenario", "matching_files"],
            "scenario/evaluator.py": ["Evaluator"],
        },
    ),
    "Samples and processors": (
        "aipcore.scenario",
        "What a scenario's data consists of and goes through; see [Data](data.md).",
        {
            "data/sample.py": ["Sample", "SampleBatch", "ColumnSpec"],
            "data/processor.py": ["Mode",
                "Processor", "RandomProcessor", "RandomBatchProcessor", "GeneratingProcessor", "PostProcessor"],
        },
    ),
    "Images, histograms and PR curves": (
        "aipcore.scenario",
        "What `Scenario.summaries` returns; see [TensorBoard](tensorboard.md).",
        {"scenario/summaries.py": ["Image", "ImageGrid", "Histogram", "PRCurve", "Summary"]},
    ),
    "Parameters": (
        "aipcore.plugin",
        "How classes of parameters are declared: `aipcore.plugin` and `aipcore.params` have all of these.",
        {
            "params/declare.py": ["params", "field", "group", "component", "components", "Choice", "REQUIRED"],
            "params/checks.py": ["Check", "above", "at_least", "between", "fraction", "regex"],
        },
    ),
    "Groups of parameters of a scenario": (
        "aipcore.scenario",
        "What an author's own groups extend; their fields are among the [parameters](parameters.md#every-scenario).",
        {
            "scenario/params.py": ["ScenarioParams", "DataParams", "ModelParams"],
            "scenario/list_file.py": ["ListFileParams", "ListFileData"],
        },
    ),
    "What plugins extend": (
        "aipcore.plugin",
        "The mark of hooks, and base classes of the parameters of a plugin. The records that plugins return are among "
        "the [hooks](hooks.md).",
        {
            "hooks/records.py": [
                "hookimpl", "API_VERSION", "OptimizerParams", "ScheduleParams", "CallbackParams", "ExporterParams",
            ],
        },
    ),
    "What plugins are handed": (
        "",
        "The arguments of `build` and of what it returns.",
        {
            "training/engine/learning_rate.py": ["Horizon"],
            "training/callbacks/context.py": ["RunContext"],
            "training/export/saved_model.py": ["Exportable"],
            "data/random.py": ["BatchRandom"],
        },
    ),
    "Applying models": (
        "aipcore.prediction",
        "Trained models in a program of your own; see [Applying models](prediction.md).",
        {"prediction/predictor.py": ["Predictor", "Prediction"]},
    ),
    "The data pipeline by itself": (
        "aipcore.data.pipeline",
        "Sources and processors without a scenario; see [Data](data.md#without-a-scenario).",
        {"data/pipeline.py": ["Pipeline"]},
    ),
    "Tests of a plugin": (
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
        "All that aip raises on purpose. The command line prints the message alone and ends with `exit_code`.",
        {
            "errors.py": [
                "AipError", "UsageError", "ParamsError", "PluginError", "ScenarioError", "DataError", "TrainingError",
            ]
        },
    ),
}  # fmt: skip
"""From each heading to the module to import from, an introduction, and the names by the files that define them."""

HEAD = """# Python API

What a program, a scenario or a plugin imports, by purpose. This page is made by `make docs` from the docstrings. All
that is not here is aip's own business and may change in any version.
"""


def reference() -> str:
    """The text of the page."""
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
                    raise SystemExit(f"aipcore/{file} defines no {name}: mend SECTIONS in docs/make_api.py.")
                parts.append(_entry(name, *found[name], tree))
    return "\n".join(parts)


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, str]]:
    """Each name that a module defines, with its docstring; that of a variable stands below it."""
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
        raise SystemExit(f"{name} has no docstring, and docs/api.md shows it.")
    if isinstance(node, ast.FunctionDef):
        return f"### `{name}`\n\n```python\n{_signature(node)}\n```\n\n{prose(doc)}"
    if not isinstance(node, ast.ClassDef):
        return f"### `{name}`\n\n{prose(doc)}"
    bases = [ast.unparse(base) for base in node.bases if not ast.unparse(base).startswith("_")]
    parts = [f"### `{name}`\n"]
    if bases:
        parts.append(f"Extends {', '.join(f'`{base}`' for base in bases)}.\n")
    parts.append(prose(doc))
    members = list(_members(node, tree, name))
    if members:
        parts.append("\n".join(members))
    return "\n".join(parts)


def _members(node: ast.ClassDef, tree: ast.Module, owner: str) -> Iterator[str]:
    """The public methods and properties of a class and of its private bases, which readers should not need to know."""
    for base in node.bases:
        private = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == ast.unparse(base)]
        for each in private:
            if each.name.startswith("_"):
                attributes = (ast.get_docstring(each) or "").partition("Attributes:\n")[2]
                yield f"**Attributes**\n\n{items(inspect.cleandoc(chr(10) + attributes))}\n"
                yield from _members(each, tree, owner)
    for each in node.body:
        if not isinstance(each, ast.FunctionDef) or each.name.startswith("_"):
            continue
        doc = ast.get_docstring(each)
        if not doc:
            raise SystemExit(f"{node.name}.{each.name} has no docstring, and docs/api.md shows it.")
        yield f"#### `{owner}.{each.name}`\n\n```python\n{_signature(each)}\n```\n\n{prose(doc)}"


def _signature(node: ast.FunctionDef) -> str:
    """How a function is called, on one line or, where it is long, with an argument on each."""
    kinds = [ast.unparse(each) for each in node.decorator_list]
    head = "".join(f"@{kind}\n" for kind in kinds if kind in ("property", "classmethod", "staticmethod"))
    returns = (f" -> {ast.unparse(node.returns)}" if node.returns else "") + ": ..."
    arguments = _arguments(node.args)
    line = f"def {node.name}({', '.join(arguments)}){returns}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){returns}"
    return head + line


def _arguments(args: ast.arguments) -> list[str]:
    """Each argument as it is written."""
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
