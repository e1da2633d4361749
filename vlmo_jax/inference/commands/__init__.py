"""The commands that ask a model: encode, match, answer."""
