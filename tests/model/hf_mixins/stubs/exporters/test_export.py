"""Stands in for the export tests, which the source distribution leaves out."""


class ExportTesterMixin:
    """No tests."""
