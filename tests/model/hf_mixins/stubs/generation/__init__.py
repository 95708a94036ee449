"""Stands in for a folder of transformers' tests that its source distribution leaves out."""
