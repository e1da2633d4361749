"""Measures of questions and statements, and pictures of what is in a data set."""
