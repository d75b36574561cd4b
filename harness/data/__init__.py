"""From a folder of images and masks to batches: each image is found, verified and decoded once.

Owns the decoding of pixels (`reading`), the canonical layout (`folder`), its checks (`validation`), arrays and augmentation (`batches`), drawn images (`phantoms`), corrupted images (`corruptions`).
"""
