"""The leaderboard for other programs: JSON by a schema, Parquet, LaTeX, and the table of the terminal.

Owns every output that is no page.
"""
