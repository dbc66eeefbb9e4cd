"""The plugin system: hook specifications, plugin records, and the plugin manager."""
