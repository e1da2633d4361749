"""Is all well: the machine, a work folder, a data set."""
