"""Makes new plugin packages from templates."""
