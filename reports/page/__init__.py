"""The HTML page of a run: sections, quoted numbers, and the pages of methods and domains; `search` makes that of a search.

Owns the templates and what they are given.
"""
