"""Words that options choose among, importable without anything heavy."""

from typing import Literal

Sampler = Literal["tpe", "random", "grid"]
"""What proposes configurations; ``grid`` takes each of the space once, in order."""
RetrainOn = Literal["train+val", "train"]
"""What the final model learns from."""
ExportFormat = Literal["toml", "json", "yaml", "csv"]
"""``toml`` is a search space; the others list configurations."""
PredictionFormat = Literal["text", "json", "csv"]
"""``text`` is for people; ``json`` is one object a line."""
EmbedSplit = Literal["train", "test", "all"]
"""``train`` has the validation images, too; ``test`` are the held-out ones."""
EmbeddingFormat = Literal["npy", "parquet"]
"""``npy``: an array and a CSV file; ``parquet``: one table."""
