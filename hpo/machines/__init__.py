"""Machines: their cards, a session of Ray, the cluster, what a trial takes of them, where checkpoints lie."""
