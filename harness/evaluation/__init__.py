"""From masks to a table: each mask is measured at its reference's own size, whoever made it.

Owns the columns of `samples.parquet`; `external` reads and matches the masks of other tools.
"""
