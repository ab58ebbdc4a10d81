"""Files of weights: what they hold, read without running their code, and how publishers name a ResNet's parts."""
