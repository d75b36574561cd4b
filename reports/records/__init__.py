"""What a report knows of its runs: trials, methods and one row for each image, read from the store.

Owns reading, selecting and joining runs, and says plainly what is missing.
"""
