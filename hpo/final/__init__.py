"""The final model: retrained, checked, tested once, and what can be concluded from its figures."""
