"""What people see of a study: tables, progress, figures, results. They read the ledger and change nothing."""
