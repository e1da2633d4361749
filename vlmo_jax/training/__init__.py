"""Losses to one jitted, sharded update, and the loop around it."""
