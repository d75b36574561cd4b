"""From files to batches: decoded arrays, kept once for all trials, and the order in which training draws them.

Owns resizing, balancing and augmentation; files are decoded by `reading`.
"""
