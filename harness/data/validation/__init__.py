"""Whether a dataset is what it says: sizes, hashes, masks, orphans and copies.

Owns the checks and the record that a folder has passed them.
"""
