"""Pages say what the code says: every metric, key, algorithm, network and search has its place."""

from __future__ import annotations

import csv
import re

import pytest

from docs.docstrings import markdown
from docs.generated import PARTS, configuration, expand
from docs.metric_pages import example_pairs, one_metric
from harness.config.checks import all_keys
from harness.config.yaml_tree import option_names
from harness.metrics import REGISTRY

from .pages import PAGES, ROOT


def _first_column(page: str, head: str) -> list[str]:
    """Names in code of a table's first column."""
    (body,) = re.findall(rf"^\| `{head}=` .*\n\|[-|]+\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE)
    return [name for line in body.splitlines() for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_every_metric_has_a_section_with_a_formula() -> None:
    """A new metric gets a heading, its formula and its generated part in docs/numbers/metrics.md."""
    page = PAGES["docs/numbers/metrics.md"]
    sections = dict(re.findall(r"^## `(\w+)`\n\n(.*?)(?=^\(|\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(REGISTRY)
    for name, text in sections.items():
        assert f"({name})=" in page
        assert text.rstrip().endswith(f"<!-- generated: metric {name} -->")
        assert " = " in text, f"{name} has no formula"


@pytest.mark.parametrize("name", REGISTRY)
def test_a_metrics_part_says_what_the_registry_says(name: str) -> None:
    metric, part = REGISTRY[name], one_metric(name)
    for fact in (metric.definition.replace("<", "&lt;"), metric.reference, f"| version | {metric.version} |"):
        assert fact in part
    assert f"| better | {'higher' if metric.higher_is_better else 'lower'} |" in part
    perfect = f"{1.0 if metric.higher_is_better else 0.0:.{metric.digits}f}"
    assert f"| both empty | {perfect} | NaN |" in part
    assert f"| the same pixel | {perfect} | {perfect} |" in part
    assert all(case in part for case in example_pairs())


def test_every_key_of_the_configuration_is_there_with_its_words() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \|(.*)\|$", configuration(), re.MULTILINE))
    keys = {key for key in all_keys() if f"{key}." not in "\n".join(all_keys())}
    assert set(rows) == keys
    for key, row in rows.items():
        assert row.split(" | ")[-1].strip(), f"{key} has no comment above it in harness/config/schema.py"


def test_tables_written_by_hand_name_all_there_is() -> None:
    assert set(_first_column("docs/methods/algorithms.md", "algorithm")) == set(option_names("algorithm")) - {"erm"}
    assert set(_first_column("docs/guides/sweeps.md", "sweep")) == set(option_names("sweep"))
    assert set(_first_column("docs/methods/networks.md", "method")) <= set(option_names("method"))


def test_sizes_of_networks_are_those_that_were_counted() -> None:
    with (ROOT / "suites" / "counts.csv").open(encoding="utf-8", newline="") as file:
        counts = {row["method"]: row for row in csv.DictReader(file)}
    for name, parameters, gmacs in re.findall(
        r"^\| `(\w+)` \| .* \| ([\d.]+) \| ([\d.]+) \|$", PAGES["docs/methods/networks.md"], re.MULTILINE
    ):
        assert float(parameters) == pytest.approx(float(counts[name]["parameters"]) / 1e6, abs=0.06), name
        assert float(gmacs) == pytest.approx(float(counts[name]["gmacs"]), abs=0.06), name


def test_what_is_not_known_is_no_silent_gap() -> None:
    with pytest.raises(KeyError):
        expand("<!-- generated: nothing -->")
    with pytest.raises(KeyError):
        expand("<!-- generated: metric nothing -->")
    used = {name for text in PAGES.values() for name in re.findall(r"^<!-- generated: (\w+)", text, re.MULTILINE)}
    assert used == set(PARTS)


def test_docstrings_become_lists_and_no_markup() -> None:
    text = markdown("Gives <b>.\n\nArgs:\n    a: one [x]\n        and more.\n    b: `c<d`\n\nReturns:\n    A * b.\n")
    assert text == "Gives \\<b>.\n\n**Args**\n\n- `a`: one \\[x\\] and more.\n- `b`: `c<d`\n\n**Returns**\n\nA \\* b."
