"""The page of a hyperparameter search.

Owns its record, figures and tables.
"""
