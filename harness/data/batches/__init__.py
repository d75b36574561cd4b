"""From files to batches: decoded arrays, kept once for all trials, and the order in which training draws them.

Owns decoding, resizing, balancing and augmentation.
"""
