"""What a method is to the bench: its contract, its card, how it is built, and crossing with algorithms.

Owns every question of what a method can do; no method is imported by name.
"""
