"""Studies in a browser: optuna-dashboard over the ledger, filled with what hpo knows, and guarded."""
