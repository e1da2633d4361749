"""The state of a run, kept and found again; one run's parameters as the next one's first."""
