"""Measures models: what a question costs before they run, and how they do beside each other."""
