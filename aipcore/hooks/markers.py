"""The markers by which pluggy knows hook specifications and their implementations."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "aip"
"""Name of the pluggy project, of the entry-point group, and the prefix of every hook."""

API_VERSION: Final = 1
"""Version of the hooks and records. A plugin may say for which it is made: `AIP_API = 1` in its module."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of a hook of aip."""
