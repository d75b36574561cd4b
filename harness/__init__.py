"""The bench: what to run, running it, measuring it, keeping it.

    config -> planning (methods, protocols, data) -> execution -> trial: training -> inference -> evaluation -> store -> reports

`trial_spec` says what a trial is and what its three ids cover; `trial` runs the stages in order.

Importing this package is cheap on purpose: torch, ray and matplotlib are imported by the functions that need them.
"""

__version__ = "0.1.0"
