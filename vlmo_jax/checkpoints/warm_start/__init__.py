"""Warm starts: the parameters of one run as the first parameters of another, by rules on their
names.

`load` is the way in; `plan` decides by names and shapes alone what happens to each parameter,
`resize` says which parameters may change shape and how.
"""
