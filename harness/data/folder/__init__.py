"""The canonical dataset folder: pictures, manifest, samples, and help for folders that are laid out otherwise.

Owns where files lie and how one is read; whether they are sound is asked in `validation`.
"""
