"""The markers by which pluggy knows hook specifications and their implementations."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "aip"
"""Name of the pluggy project, of the entry-point group, and the prefix of every hook."""

API_VERSION: Final = 1
"""Major version of the hooks and records. A plugin may say for which it is made: `AIP_API = 1` in its module."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks the specification of a hook; only `specs` uses it."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""
