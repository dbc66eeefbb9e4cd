"""The classes of the scenarios of classification."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aipcore.errors import DataError, UsageError


def checked_classes(given: tuple[str, ...], found: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """Return the given classes, or else those of the training data.

    Raises:
        UsageError: a given class is there twice, or is the only one.
        DataError: the data has only one class.
    """
    classes = given or tuple(found())
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise UsageError(f"--data.classes names {twice!r} more than once. Name each class once.")
    if len(classes) < 2:
        if given:
            raise UsageError(f"--data.classes names only {given[0]!r}. Name at least two classes.")
        raise DataError(f"The training data has only the class {''.join(classes)!r}. Add data of another class.")
    return classes
