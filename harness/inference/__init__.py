"""From a method and images to masks, for trials and for new images of a user.

Owns resizing to native size, mask files, and the pictures that `predict` writes.
"""
