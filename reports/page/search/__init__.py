"""The page of a hyperparameter search: its record, figures and tables."""
