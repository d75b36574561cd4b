"""Where results live: a folder for each trial, in it one for each prediction and measurement, whole or absent.

Owns the layout on the disk, its checksums, locks and statuses, what a result says of its origin, and all questions to it.
"""
