"""Something to search at once: drawings that come with the package, and a small model of them."""
