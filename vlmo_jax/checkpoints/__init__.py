"""The state of a run, kept and found again, and the parameters of one run as the first ones of the next."""
