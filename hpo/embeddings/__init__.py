"""Embeddings of images as files, and a page that shows them: a map, neighbours, likely duplicates, outliers."""
