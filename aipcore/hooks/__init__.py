"""The plugin system: hook specifications, the records plugins hand over, and the manager that finds them."""
