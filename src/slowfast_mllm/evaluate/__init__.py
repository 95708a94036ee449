"""Measures models before they run: what a question costs in FLOPs and bytes."""
