"""The HTML page of a run: sections, quoted numbers, and the pages of methods and domains.

Owns what the templates are given.
"""
