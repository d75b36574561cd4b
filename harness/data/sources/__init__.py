"""From what people downloaded to a canonical folder: archives are read, images and masks paired, and each pair written.

Owns archives, the layouts in them, other forms of masks (outlines, several files an image) and the folder's manifest.
"""
