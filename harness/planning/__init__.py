"""From a configuration to the trials of a run, checked and estimated before anything is spent.

Owns the plan; it runs nothing.
"""
