"""The tutorial: handwritten digits, with data included in aip."""
