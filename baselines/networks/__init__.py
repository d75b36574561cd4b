"""Networks of published libraries and what they need: encoders' weights, padding, places for algorithms.

Owns the classes that `method/*.yaml` names; nothing here knows of the bench.
"""
