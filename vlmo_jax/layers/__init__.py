"""The layers that the models are built from.

Shapes: B batch, T text tokens, P image tokens (class token and patches), N joint tokens, R tokens
that are read, D width, H heads, K head width, F feed-forward width, V vocabulary, E experts,
G branches.
"""
