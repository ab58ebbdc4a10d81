"""An experiment's runs: which studies they are, what they cost, and what was measured."""
