"""Pickling of an author's objects for processes that start without the author's script, with all code they need."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib.machinery import PathFinder
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from aipcore.errors import DataError


class UnshippableError(DataError):
    """Processors or data cannot be sent to worker processes."""


def dump(value: Any, keep: Callable[[pickle.PickleBuffer], object]) -> bytes:
    """Return the pickle of a value; `keep` receives each array in it.

    Classes and functions of scripts, notebooks and scenario files are pickled as code; those of importable modules by
    name.
    """
    file = io.BytesIO()
    with ExitStack() as registered:
        _Pickler(file, keep, registered).dump(value)
    return file.getvalue()


def dump_any(value: Any, keep: Callable[[pickle.PickleBuffer], object]) -> bytes:
    """Return the standard library's pickle of a value, which is fast, or that of `dump` where it fails."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception:
        return dump(value, keep)
    for buffer in buffers:
        keep(buffer)
    return body


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, keep: Callable[[pickle.PickleBuffer], object], registered: ExitStack) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._registered = registered
        self._seen: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            # cloudpickle leaves out the file, which errors and warnings name.
            made, arguments, *_ = self.dispatch_table[CodeType](obj)
            return _code_of_file, (made, arguments, obj.co_filename)
        if isinstance(obj, type | FunctionType) and obj.__module__ not in self._seen:
            self._seen.add(obj.__module__)
            module = sys.modules.get(obj.__module__)
            if module is not None and module.__name__ != "__main__" and not _can_be_imported(module.__name__):
                self._register(module)
        return super().reducer_override(obj)

    def _register(self, module: ModuleType) -> None:
        if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            self._registered.callback(cloudpickle.unregister_pickle_by_value, module)


def _code_of_file(made: Callable[..., CodeType], arguments: tuple[Any, ...], file: str) -> CodeType:
    return made(*arguments).replace(co_filename=file)


@cache
def _can_be_imported(name: str) -> bool:
    """Return True if a new process with the same search path finds a module."""
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    path: Any = None
    parts = name.split(".")
    for number in range(1, len(parts) + 1):
        part = ".".join(parts[:number])
        try:
            # Editable installs add their own finders, which the other process has too.
            spec = next(filter(None, (_found(finder, part, path) for finder in (PathFinder, *sys.meta_path))), None)
        except Exception:
            return False
        if spec is None:
            return False
        loaded = sys.modules.get(part)
        origin = getattr(loaded, "__file__", None)
        if origin is not None and spec.origin is not None and origin != spec.origin:
            return False
        path = spec.submodule_search_locations
    return True


def _found(finder: Any, name: str, path: Any) -> Any:
    find = getattr(finder, "find_spec", None)
    return None if find is None else find(name, path)
