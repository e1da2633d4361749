"""Search over one's own pictures: an index of a folder, and questions to it.

    from vlmo_jax.search import open_index
    from vlmo_jax.search.queries import Query, Searcher, Term

    index = open_index("INDEX")
    searcher = Searcher(index, vlmo_jax.load(index.about.model))
    hits = searcher.search(Query([Term(1.0, text="a red heart")], top_k=10))

`python -m vlmo_jax.search index PICTURES INDEX --model=DIR` makes one; see docs/SEARCH.md.
"""

from vlmo_jax.search.index import Index, open_index

__all__ = ["Index", "open_index"]
