"""From a reader's entries to a data set: units, shards, and the place where they go."""
