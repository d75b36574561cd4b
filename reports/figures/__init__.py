"""Figures by matplotlib, drawn once for the page and for files.

Owns their style and their words for screen readers.
"""
