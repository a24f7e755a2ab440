"""avsl_data: from published lists to verified Parquet shards and splits."""
