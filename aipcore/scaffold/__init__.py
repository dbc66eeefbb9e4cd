"""Templates for new plugin packages, and their rendering."""
