"""Pictures of predictions beside the truth, with outlines small enough for one HTML file.

Owns which images are shown.
"""
