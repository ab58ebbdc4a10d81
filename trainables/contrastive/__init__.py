"""SimCLR (Chen et al. 2020): an encoder from images without labels."""
