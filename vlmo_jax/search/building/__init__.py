"""From a folder of pictures to an index: found, prepared, encoded, put in place."""
