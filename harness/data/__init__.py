"""From a folder of images and masks to batches: each image is found, verified and decoded once.

Owns what people download (`sources`, with a recipe in `catalogue` for each public dataset), the canonical layout (`folder`), its checks
(`validation`), the decoding of pixels (`reading`), arrays and augmentation (`batches`), drawn images (`phantoms`) and
corrupted images (`corruptions`).
"""
