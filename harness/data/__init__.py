"""Data: the canonical dataset folder, its integrity, decoded arrays, augmentation, loading and phantoms.

The way of an image: `dataset` finds it (manifest or scan), `integrity` trusts it (once), `cache` decodes and resizes
it (once), `loading` puts it in batches, `augmentation` varies it.
"""
