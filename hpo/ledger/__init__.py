"""The only writer of Optuna: a study's ledger, its draws and records, the database below it, and its lock."""
