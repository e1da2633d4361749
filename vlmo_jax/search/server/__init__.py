"""A search over pictures, in a browser and for programs."""
