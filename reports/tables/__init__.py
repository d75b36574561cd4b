"""The leaderboard's tables: rows, columns and cells.

Owns the order of rows and what each column shows.
"""
