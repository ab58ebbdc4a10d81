"""Networks: backbones, their weights, heads, freezing, and where the frozen part ends."""
