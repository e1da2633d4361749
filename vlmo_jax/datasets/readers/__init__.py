"""Files of others to records."""
