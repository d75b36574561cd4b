"""Trials by Ray Tune: one Tune trial for each, resources (`trial_resources`), lost nodes, and what a worker does.

The only place that imports Ray; the store, not Ray, is the database.
"""
