"""Stands in for the generation tests, which the source distribution leaves out.

`test_generation.py` and `test_memory.py` beside this folder hold ours.
"""


class GenerationTesterMixin:
    """No tests."""
