"""What one trial runs: backbones, weights, data and the training loop. Knows nothing of Ray, Optuna or the command line."""
