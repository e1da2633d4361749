"""Evaluation: a model scored by a named protocol on a split."""

from vlmo_jax.evals.protocols import PROTOCOLS
from vlmo_jax.evals.retrieval import RetrievalEvaluator, RetrievalExamples

__all__ = ["PROTOCOLS", "RetrievalEvaluator", "RetrievalExamples"]
