"""Which vectors are nearest: exact search in a matrix, and the same in Qdrant."""
