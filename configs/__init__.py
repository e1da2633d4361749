"""The recipes, one a file; `common` is what they share."""
