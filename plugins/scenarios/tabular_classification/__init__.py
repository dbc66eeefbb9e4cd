"""Classification of the rows of a table: CSV or Parquet files to classes."""
