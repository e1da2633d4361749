"""Another name of configs/visual_tokenizer.py, which earlier commands use."""

from configs.visual_tokenizer import get_config

__all__ = ["get_config"]
