"""Results of many labs: packs those of a run, and builds the site that ranks what labs sent.

Owns the site of a growing leaderboard; the file of a submission and its check are in `harness.submissions`.
"""
