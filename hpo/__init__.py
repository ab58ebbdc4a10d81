"""Hyperparameter-optimisation studies for fine-tuning pretrained image backbones."""
