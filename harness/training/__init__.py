"""The fit loop, one for every method: stages, optimisers, selection, and after each epoch checkpoint, status and stop.

Owns how weights come about; it never reads a test image, but for the rule that is marked as oracle.
"""
