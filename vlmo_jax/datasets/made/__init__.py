"""Data sets that are made of the embedded drawings when they are read, record by record."""
