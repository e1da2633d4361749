"""Odd inputs by the thousand: python -m tests.fuzz --help."""
