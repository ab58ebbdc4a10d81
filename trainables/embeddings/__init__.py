"""What is read from image embeddings: neighbours, duplicates, outliers."""
