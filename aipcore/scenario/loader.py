"""Loading of scenario classes by plugin name, `package.module:Class`, `package.module`, or file."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import attrs

from aipcore.errors import AipError, ScenarioError, author_line, sentence, with_traceback_hint
from aipcore.files import expanded
from aipcore.params.names import nearest, one_of
from aipcore.scenario.scenario import Scenario

LIBRARIES = {
    "PIL", "absl", "ai_edge_litert", "aip_plugins", "aipcore", "astunparse", "attr", "attrs", "cattrs", "certifi",
    "click", "cloudpickle", "flatbuffers", "gast", "google", "grpc", "h5py", "keras", "markdown", "ml_dtypes",
    "namex", "numpy", "opt_einsum", "optree", "optuna", "packaging", "pandas", "plotille", "pluggy", "pygments",
    "requests", "rich", "scipy", "six", "tensorboard", "tensorflow", "termcolor", "tf2onnx", "typing_extensions",
    "urllib3", "werkzeug", "wrapt", "yaml",
}  # fmt: skip
"""Direct and indirect dependencies of aip."""

FILE_MODULE = "aip_scenario_"
"""Prefix of the names of modules loaded from a file."""


@attrs.frozen
class LoadedScenario:
    """A scenario class and its origin.

    Attributes:
        name: the name in file names and titles.
        cls: the class.
        origin: the user's name for the scenario, in words.
        kind: plugin, file or module, or a class of a program or notebook that cannot be imported.
        reference: the text with which `load_scenario` finds the class from any working folder.
        folder: the folder searched for its module besides the installed packages.
    """

    name: str
    cls: type[Scenario]
    origin: str
    kind: Literal["plugin", "file", "module", "class"] = "plugin"
    reference: str = ""
    folder: Path = attrs.field(factory=Path.cwd)


def load_scenario(
    text: str,
    *,
    names: list[str],
    find: Callable[[str], tuple[str, object] | None],
    folder: Path | None = None,
) -> LoadedScenario:
    """Find and import a scenario.

    Args:
        text: a plugin name, `package.module:Class`, `package.module`, or the path of a `.py` file, with `:Class` if it
                contains several scenarios.
        names: the names of all scenario plugins, for the error message.
        find: returns the plugin's display name and the object its record names, or None if no plugin has that name.
        folder: the folder to search for modules besides the installed packages; by default the working folder.

    Raises:
        ScenarioError: the scenario does not exist or cannot be imported, or the module contains no scenario or
            several ones.
    """
    found = find(text)
    if found is not None:
        name, cls = found
        return LoadedScenario(name, _checked(cls, f"plugin {name}"), f"plugin {name}", "plugin", name)
    target, _, attribute = text.partition(":")
    here = folder or Path.cwd()
    is_file = target.endswith(".py") or "/" in target
    if is_file:
        module, name = _module_of_file(expanded(target)), Path(target).stem
    elif "." in target or attribute or _is_module_here(target, here):
        module, name = _module_of_name(target, text, here), target.rpartition(".")[2]
    else:
        near = nearest(text, names)
        hint = f"Did you mean {one_of(near)}?" if near else f"The scenario plugins are: {', '.join(names) or 'none'}."
        raise ScenarioError(
            f"There is no scenario {text!r}. {hint} Give a plugin name, package.module:Class or a .py file."
        )
    cls = _pick(module, attribute, text)
    where = str(expanded(target).resolve()) if is_file else module.__name__
    return LoadedScenario(
        _file_name(cls.__name__ if attribute else name),
        cls,
        text,
        "file" if is_file else "module",
        f"{where}:{attribute or cls.__name__}",
        here,
    )


def loaded_class(cls: object, plugins: Mapping[str, str]) -> LoadedScenario:
    """Return a scenario class of a program with its reference.

    Args:
        cls: the class.
        plugins: the names of all scenario plugins by their reference, `"module:Class"`.

    Raises:
        ScenarioError: the class is not a scenario.
    """
    scenario = _checked(cls, getattr(cls, "__qualname__", repr(cls)))
    module, qualname = scenario.__module__, scenario.__qualname__
    reference = f"{module}:{qualname}"
    if reference in plugins:
        name = plugins[reference]
        return LoadedScenario(name, scenario, f"plugin {name}", "plugin", name)
    name, found = _file_name(scenario.__name__), sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if file is None or getattr(found, qualname, None) is not scenario:
        return LoadedScenario(name, scenario, reference, "class", reference)
    path = Path(file).resolve()
    if module == "__main__" or module.startswith(FILE_MODULE):
        return LoadedScenario(name, scenario, str(path), "file", f"{path}:{qualname}")
    folder = path.parents[module.count(".") + (path.name == "__init__.py")]
    folder = Path.cwd() if folder.name in ("site-packages", "dist-packages") else folder
    return LoadedScenario(name, scenario, reference, "module", reference, folder)


def _is_module_here(name: str, folder: Path) -> bool:
    if not name.isidentifier():
        return False
    _search_in(folder)
    return importlib.util.find_spec(name) is not None


def _search_in(folder: Path) -> None:
    # As with `python -m`, modules in the working folder can be imported.
    here = str(folder)
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()


def _refuse_shadowing(folder: Path) -> None:
    """Reject a folder with a file that would shadow a standard module or a dependency of aip.

    Raises:
        ScenarioError: there is such a file.
    """
    for name in sorted(LIBRARIES | sys.stdlib_module_names):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file() and (name in sys.stdlib_module_names or _is_elsewhere(name, path)):
                shown = path.parent if path.name == "__init__.py" else path
                raise ScenarioError(f"{shown} has the same name as the library {name} and would hide it. Rename it.")


def _is_elsewhere(name: str, path: Path) -> bool:
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()]
    return importlib.machinery.PathFinder.find_spec(name, elsewhere) is not None


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ScenarioError(f"There is no scenario file {path}. Give the path of a .py file, or a plugin name.")
    name = f"{FILE_MODULE}{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path} cannot be imported. Rename it: the name of a scenario file must end in .py.")
    module = importlib.util.module_from_spec(spec)
    _refuse_shadowing(path.resolve().parent)
    # As for a Python script, modules beside the file can be imported, and classes know their module.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    _import(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]
    return module


def _module_of_name(name: str, text: str, folder: Path) -> ModuleType:
    _refuse_shadowing(folder)
    _search_in(folder)
    for candidate in (f"{name}.scenario", name):
        if _exists(candidate, text):
            _import(partial(importlib.import_module, candidate), candidate)
            return sys.modules[candidate]
    raise ScenarioError(f"There is no module {name}. Install its package, or run aip in the folder that contains it.")


def _exists(name: str, text: str) -> bool:
    found: list[bool] = []
    try:
        _import(lambda: found.append(importlib.util.find_spec(name) is not None), text)
    except ScenarioError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            return False
        raise
    return found[0]


def _import(run: Callable[[], object], what: str) -> None:
    try:
        run()
    except AipError:
        raise
    except SyntaxError as error:
        raise ScenarioError(
            f"{error.filename or what}, line {error.lineno}: {error.msg}. Fix the scenario file."
        ) from error
    except Exception as error:
        line = author_line(error)
        where = f"{what} cannot be imported" if line is None else line.removesuffix(", in <module>")
        raise ScenarioError(f"{where}: {with_traceback_hint(sentence(error))}") from error


def _pick(module: ModuleType, attribute: str, text: str) -> type[Scenario]:
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Scenario) and value.__module__ == module.__name__
    }
    if attribute:
        if not hasattr(module, attribute):
            raise ScenarioError(f"{text} does not exist. The scenarios of the module are: {', '.join(own) or 'none'}.")
        return _checked(getattr(module, attribute), text)
    if not own:
        own = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Scenario) and value is not Scenario
        }
    if not own:
        raise ScenarioError(f"{text} contains no scenario. Define a class that extends aipcore.scenario.Scenario.")
    if len(own) > 1:
        # A base class whose required methods are missing is not a candidate.
        own = {name: value for name, value in own.items() if _is_complete(value)} or own
    if len(own) > 1:
        choices = " or ".join(f"{text}:{name}" for name in own)
        raise ScenarioError(f"{text} contains {len(own)} scenarios. Choose {choices}.")
    return next(iter(own.values()))


def _is_complete(cls: type[Scenario]) -> bool:
    def defines(name: str) -> bool:
        return getattr(cls, name) is not getattr(Scenario, name)

    return defines("train_data") and defines("build") and (defines("losses") or defines("loss_values"))


def _checked(cls: object, text: str) -> type[Scenario]:
    if not (isinstance(cls, type) and issubclass(cls, Scenario)):
        raise ScenarioError(f"{text} is not a scenario. Give a class that extends aipcore.scenario.Scenario.")
    return cls


def _file_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
