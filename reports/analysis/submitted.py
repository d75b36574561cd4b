"""What others submitted, as grey reference rows of a report: shown beside measured ones, never ranked with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.methods.card import start_of
from harness.submissions.reading import read_chosen
from reports.analysis.starts import marked
from reports.records.published import PublishedResult


def submitted_results(path: Path) -> list[PublishedResult]:
    """The mean Dice of each method of a submission: on each domain that it was tested on, and on each modality over its domains.

    Titles say prompt and start, for rows of unequal starts are no comparison on equal terms.

    Raises:
        UserError: no such file, or a submission that is not sound.
    """
    submission = read_chosen(path)
    specs = [trial.spec for trial in submission.trials]
    tested = submission.images[submission.images["role"] == "test"]
    places = tested["key"].str.split("/", n=2)
    rows = tested.assign(
        method=[_title(specs[trial].method.card) for trial in tested["trial"]],
        modality=places.str[0],
        domain=places.str[1],
    )
    submitter, protocols = submission.manifest["submitter"], sorted({spec.protocol.name for spec in specs})
    assert isinstance(submitter, dict)
    source = ", ".join(filter(None, [str(submitter["name"]), " and ".join(protocols), path.name]))
    means = rows.groupby(["method", "modality", "domain"], sort=False, as_index=False)["dice"].mean()
    over_domains = means.groupby(["method", "modality"], sort=False, as_index=False)["dice"].mean()
    columns = ["method", "modality", "domain", "dice"]
    return [
        PublishedResult(method, modality, domain, "dice", value, source, page="")
        for table in (means, over_domains.assign(domain=None))
        for method, modality, domain, value in table[columns].itertuples(index=False)
    ]


def _title(card: Mapping[str, Any]) -> str:
    prompt = "" if card["prompt"] == "none" else f", {card['prompt']}"
    return marked(f"{card['title']}{prompt}", start_of(dict(card)))
