"""Where results live: one folder for each trial, whole or absent, with locks, checksums and statuses.

Owns the layout on the disk and all questions to it.
"""
