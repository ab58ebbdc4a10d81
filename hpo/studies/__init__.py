"""What commands do: the life of a study, a new one, its readiness, the retrain, and what remains of it."""
