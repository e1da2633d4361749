"""Tasks: which model outputs meet which objectives, with which weights."""
