"""Training as a paper did it: its protocol as switches, and held-out test read at the epochs that it reported."""
