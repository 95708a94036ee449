"""Slow-Fast video multimodal LLM (arXiv 2504.01328): ask a video a question."""

__version__ = "0.1.0"
