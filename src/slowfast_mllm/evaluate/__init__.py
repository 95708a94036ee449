"""Measures models: what they cost."""
