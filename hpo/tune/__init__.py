"""Ray Tune's side: hands out the ledger's trials, keeps ASHA's rungs, runs a trial in a worker."""
