"""A paper's experiments: run again, and the measured set next to the published."""
