"""A study's final model in use: predictions, its card, and other formats for it."""
