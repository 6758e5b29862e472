"""Stored trials as learning curves, studies, tables and comparisons."""
