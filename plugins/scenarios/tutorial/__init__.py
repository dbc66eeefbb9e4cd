"""The tutorial: handwritten digits, on data that comes with aip."""
