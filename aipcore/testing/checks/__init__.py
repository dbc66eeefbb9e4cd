"""The checks themselves, a module for each kind of plugin; see `aipcore.testing.registry`."""
