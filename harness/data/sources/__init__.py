"""From what people downloaded to a canonical folder: archives are read, images and masks paired, and each pair written.

Owns archives, how recipes (one YAML for each public dataset, in `data/catalogue`) are read and folders guessed, other forms of masks
(outlines, several files an image) and the folder's manifest.
"""
