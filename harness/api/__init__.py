"""The bench from Python: run, plan, evaluate, and results as DataFrames, figures and trained methods.

`from harness import run, plan, evaluate, load_results, figures` gives the same names; this package is imported then.
"""

import warnings

from harness.api import figures as figures
from harness.api.results import Results as Results
from harness.api.results import TrainedTrial as TrainedTrial
from harness.api.results import load_results as load_results
from harness.api.running import PlannedRun as PlannedRun
from harness.api.running import evaluate as evaluate
from harness.api.running import plan as plan
from harness.api.running import run as run

# tqdm warns in notebooks without ipywidgets, and libraries of methods import it; the bench shows no bar of tqdm.
warnings.filterwarnings("ignore", message="IProgress not found")
