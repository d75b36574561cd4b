"""Writes a submission: equal results give equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.files import canonical_json, sha256_json
from harness.submissions.archive import pack
from harness.submissions.layout import MANIFEST, SCHEMA_VERSION
from harness.submissions.reading import parse_submission
from harness.submissions.tables import write_table


def submission_bytes(manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> bytes:
    """The file of a submission, read again as a leaderboard would.

    Args:
        manifest: submission.json without schema_version, files and checksum.
        tables: member -> its table, with the columns of `harness.submissions.layout`.

    Raises:
        Refused: a leaderboard would refuse it; says why.
    """
    members = {name: write_table(name, table) for name, table in tables.items()}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    whole = {"schema_version": SCHEMA_VERSION, **manifest, "files": files}
    text = canonical_json({**whole, "checksum": sha256_json(whole)})
    content = pack({MANIFEST: text.encode("utf-8"), **members})
    parse_submission(content)
    return content
