"""Batches to arrays on the mesh; the processes of a job."""
