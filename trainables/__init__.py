"""What one trial runs: backbones, weights, data and the training loop.

It knows nothing of Ray, Optuna or the command line.
"""
