"""The leaderboard's tables: rows, columns and cells, and their forms that are no page: terminal, CSV, LaTeX, JSON, Parquet.

Owns the order of rows, what each column shows, and the JSON schema.
"""
