"""The checks, in one module for each kind of plugin; see `aipcore.testing.registry`."""
