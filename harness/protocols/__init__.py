"""Which images a trial trains on, selects on and is tested on, and the guard against leaks.

Owns `Split`; a split depends on names, hashes and a seed alone.
"""
