"""Slow-Fast video multimodal LLM (arXiv 2504.01328): ask a video a question.

Importing a public name registers the Auto classes of transformers; importing the bare package, as
the command line does for `--help`, stays cheap.
"""

__version__ = "0.1.0"
