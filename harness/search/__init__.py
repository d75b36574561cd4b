"""Hyperparameter search on Ray Tune, blind to the test domain.

    space.py              what may change, and between which values
    configurations.py     values -> trial specs, and the chosen ones as a method's YAML
    objective.py          one configuration: its trials fold after fold, and their mean validation Dice
    curves.py             what is known of a trial's validation Dice, epoch by epoch
    sampling.py           which configurations are tried: grid, random, Optuna
    scheduling.py         which are stopped early (ASHA), and when the whole ends
    ray_search.py         one search over some folds, by Ray Tune
    population.py         one search whose hyperparameters change midway (PBT); population_member.py: one of its members
    sweep.py              the searches of a sweep, one for each fold alone and one over all
    nested_score.py       what the choices are worth on the domains that they never saw
    tuned_run.py          a run of several methods, each fold with what its own search chose

Why a search for each fold: under leave-one-domain-out every domain trains and validates in all folds but its own. A
configuration chosen (or kept alive, or proposed) by its mean over all folds was therefore chosen with the help of the very
domain that some fold tests on. So nested searches measure what a sweep is worth: fold f's parameters come from a search
that is shown nothing but fold f's training and validation images, and are tested on the domain that fold f holds out. The
search over all folds gives the configuration to use on new data; no test score belongs to it.
"""
