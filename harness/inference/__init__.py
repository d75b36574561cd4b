"""From a method and images to masks, for trials and for new images of a user.

Owns resizing to native size, and the files that `predict` writes; a trial's masks are kept by the store.
"""
