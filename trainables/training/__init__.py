"""Training: an epoch, a trial, the retrain, checkpoints, the device, features, memory."""
