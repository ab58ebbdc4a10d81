"""Images: datasets, their splits, the held-out fence, transforms, and the stores of decoded images."""
