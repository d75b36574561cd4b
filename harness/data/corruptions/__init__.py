"""Graded faults of image acquisition (noise, blur, hair, shadow ...), to test how well a method withstands them.

Owns the corruptions, which image gets which, and copies of a dataset that are corrupted; the masks never change.
"""
