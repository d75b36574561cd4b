"""Which rows share a ranking, in which order, and what the history says."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from support.hostile import ATTACKS
from support.submissions import packed, tampered, write_lab

from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.metrics.pair import dice
from harness.submissions.guard import Verdict
from harness.submissions.layout import IMAGES
from harness.submissions.reading import parse_submission
from reports.records.records import Records
from reports.submissions.entries import Entry, read_entries, shown_name
from reports.submissions.history import history
from reports.submissions.rankings import Ranking, build_rankings
from reports.submissions.site import Site
from reports.tables.leaderboard import Leaderboard


def entry(
    content: bytes, file: str = "a.zip", received: str = "2026-01-01 00:00 UTC", state: str = "unverified"
) -> Entry:
    return Entry(file, received, Verdict(state, "", parse_submission(content)))  # type: ignore[arg-type]


def uncomputed(_: Records) -> Leaderboard:
    """In place of `build_leaderboard`, where only what shares a ranking is looked at."""
    return cast(Leaderboard, None)


@pytest.fixture(scope="module")
def alone(labs: dict[str, bytes]) -> Ranking:
    """The first lab's rows, without others."""
    ((ranking,), _) = build_rankings([entry(labs["first"])])
    return ranking


def test_terms_of_a_submitted_method_are_those_of_its_arguments(labs: dict[str, bytes]) -> None:
    """A file tells no recorded stages, but `model:` does; a stranger may give any number of them."""
    stages = [{"name": "decode", "share": 2, "views": 4}, {"name": "joint", "share": 1, "learning_rate": 0.6}]

    def terms(given: object) -> str:
        def change(manifest: dict[str, Any]) -> None:
            manifest["methods"][0]["model"]["stages"] = given

        changed = entry(tampered(labs["first"], manifest=change))
        (ranking,), _ = build_rankings([changed, entry(labs["second"], "b.zip")])
        return "\n".join(words for found in ranking.board.differences for words in found.what)

    said = terms(stages)
    assert "stages decode (2/3 of the epochs), then joint (1/3 of the epochs)" in said
    assert "augmented views of an image 4 fixed ones in decode" in said
    assert "parts at another learning rate x 0.6 in joint" in said
    assert len(terms(stages * 1000)) < 5000


def test_verified_and_unverified_rows_are_ranked_apart(site: Site) -> None:
    found = {ranking.trust: [row.entry.file for row in ranking.rows.values()] for ranking in site.rankings}
    assert found == {
        "verified": [
            "first.zip",
            "first.zip",
            "second.zip",
            "second.zip",
            "scripts_in_names.zip",
            "scripts_in_names.zip",
        ],
        "unverified": ["without.zip", "without.zip"],
    }
    assert len({ranking.data for ranking in site.rankings}) == 1


def test_the_numbers_are_recomputed_from_rows(labs: dict[str, bytes], data: Path) -> None:
    """A macro mean by hand: of the metric, over images of a domain, then over domains."""
    import numpy as np

    from harness.data.reading import read_mask

    (ranking,), _ = build_rankings([entry(labs["second"])])
    row = ranking.board.table.set_index("title").loc["Unet"]
    domains: dict[str, list[float]] = {}
    for sample in Dataset.open(data).samples:
        truth = read_mask(sample.mask)
        domains.setdefault(sample.domain_key, []).append(dice(np.roll(truth, 2, 1), truth))
    assert math.isclose(row["dice"], np.mean([np.mean(values) for values in domains.values()]), rel_tol=1e-12)
    assert row["rank"] == "1" and row["track"] == "automatic"
    assert ranking.board.table.set_index("title").loc["Boxed", "track"] == "oracle"


@pytest.mark.parametrize(
    "attack", ["other data", "easy images only", "said to hold nothing out", "scripts in the data's names"]
)
def test_other_data_never_share_a_ranking(labs: dict[str, bytes], alone: Ranking, attack: str) -> None:
    other = ATTACKS[attack].make(labs["first"])
    rankings, _ = build_rankings([entry(labs["first"]), entry(other, "b.zip")])
    assert len(rankings) == 2
    first = next(ranking for ranking in rankings if ranking.data == alone.data)
    assert first.board.table["dice"].tolist() == alone.board.table["dice"].tolist()


def test_facts_of_the_data_decide_too(labs: dict[str, bytes]) -> None:
    """The same fingerprint is claimed, and the test images have other sizes: they can't be the same."""
    other = tampered(labs["first"], tables={IMAGES: lambda table: table.assign(width=table["width"] + 1)})
    rankings, _ = build_rankings([entry(labs["first"]), entry(other, "b.zip")], uncomputed)
    assert len(rankings) == 2


def test_other_rules_never_share_a_ranking(labs: dict[str, bytes], data: Path, tmp_path: Path) -> None:
    other = packed(write_lab(tmp_path, data, {"unet": 2}, metrics={"nsd_tolerance": 5.0})).content
    assert len(build_rankings([entry(labs["second"]), entry(other, "b.zip")], uncomputed)[0]) == 2


def test_equal_names_of_two_labs_stay_two_rows(site: Site) -> None:
    verified = site.rankings[0].board.table
    titles = verified.loc[verified["title"].str.startswith("Unet"), "title"].tolist()
    assert titles == ["Unet (Second lab, 1970-01-02)", "Unet (First lab, 1970-01-01)"]


@pytest.mark.parametrize("title", ["UNET", "\uff35net", "\u00a0Unet"])
def test_titles_that_look_alike_say_whose_they_are(labs: dict[str, bytes], title: str) -> None:
    def call(manifest: dict[str, list[dict[str, dict[str, str]]]]) -> None:
        manifest["methods"][0]["card"]["title"] = title

    other = tampered(labs["first"], manifest=call)
    (ranking,), _ = build_rankings([entry(labs["second"]), entry(other, "b.zip")], uncomputed)
    titles = {facts.title for facts in ranking.records.methods.values()}
    assert {"Unet (Second lab, 2026-01-01)", f"{title} (First lab, 2026-01-01)"} <= titles


def test_the_history_says_who_took_the_lead(site: Site) -> None:
    events = [event for event in history(site.rankings) if event.trust == "verified"]
    assert [(event.title.replace(" [", " (").split(" (")[0], event.leads) for event in events][:4] == [
        ("Otsu", False), ("Unet", True), ("Boxed", False), ("Unet", True),
    ]  # fmt: skip
    assert "before: Unet (First lab, 1970-01-01) [from scratch]" in events[3].words
    assert "ranked apart" in events[2].words


def test_numbers_that_break_a_statistic_cost_their_own_submission(labs: dict[str, bytes]) -> None:
    def fragile(records: Records) -> Leaderboard:
        if any("Otsu" in facts.title for facts in records.methods.values()):
            raise ZeroDivisionError
        return uncomputed(records)

    rankings, entries = build_rankings([entry(labs["first"]), entry(labs["second"], "b.zip")], fragile)
    assert [each.verdict.state for each in entries] == ["refused", "unverified"]
    assert [row.entry.file for ranking in rankings for row in ranking.rows.values()] == ["b.zip", "b.zip"]


def test_where_rows_break_only_together_the_last_one_goes(labs: dict[str, bytes]) -> None:
    def small(records: Records) -> Leaderboard:
        if len(records.methods) > 2:
            raise MemoryError
        return uncomputed(records)

    _, entries = build_rankings([entry(labs["first"]), entry(labs["second"], "b.zip")], small)
    assert [each.verdict.state for each in entries] == ["unverified", "refused"]
    assert "together" in entries[1].verdict.reason


def test_a_file_sent_twice_counts_once(labs: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(labs["without"])
    first, second = read_entries(tmp_path, None)
    assert first.verdict.state == "unverified"
    assert second.verdict.state == "refused" and f"the same file as {first.file}" in second.verdict.reason


def test_a_file_sent_twice_counts_once_whatever_its_names_look_like(labs: dict[str, bytes], tmp_path: Path) -> None:
    for name in (f"{'a' * 130}b.zip", f"{'a' * 130}c.zip"):
        (tmp_path / name).write_bytes(labs["without"])
    assert [each.verdict.state for each in read_entries(tmp_path, None)] == ["unverified", "refused"]


def _git(folder: Path, date: str, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, capture_output=True,
        env={"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def _received(folder: Path) -> dict[str, str]:
    return {each.file: each.received for each in read_entries(folder, None, lambda path, data: Verdict("refused"))}


def test_git_says_when_a_file_came(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"a")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a submission"]):
        _git(tmp_path, "2026-03-04T05:06:07+02:00", *words)
    assert _received(tmp_path) == {"a.zip": "2026-03-04 03:06 UTC"}
    (tmp_path / "a.zip").write_bytes(b"better")
    _git(tmp_path, "2026-05-01T00:00:00+00:00", "commit", "-q", "-a", "-m", "replaced")
    assert _received(tmp_path) == {"a.zip": "2026-05-01 00:00 UTC"}, "other numbers must not keep the old date"


def test_nobody_dates_his_own_submission(tmp_path: Path) -> None:
    """The submitter wrote the dates of the commits in a merge, and may name a file so that git takes it for a pattern."""
    (tmp_path / "a.zip").write_bytes(b"a")
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["commit", "-q", "-m", "an honest one"],
        ["checkout", "-q", "-b", "theirs"],
    ):
        _git(tmp_path, "2026-03-01T00:00:00+00:00", *words)  # fmt: skip
    (tmp_path / "*.zip").write_bytes(b"b")
    for words in (["add", "-A"], ["commit", "-q", "-m", "dated back"], ["checkout", "-q", "main"]):
        _git(tmp_path, "2020-01-01T00:00:00+00:00", *words)
    _git(tmp_path, "2026-04-01T00:00:00+00:00", "merge", "-q", "--no-ff", "-m", "merged", "theirs")
    assert _received(tmp_path) == {"a.zip": "2026-03-01 00:00 UTC", "*.zip": "2026-04-01 00:00 UTC"}


def test_settings_in_the_folder_run_no_program(tmp_path: Path) -> None:
    """A folder that others fill may be a repository by itself, whose settings name a program that checks signatures."""
    work, folder = tmp_path / "work", tmp_path / "submissions"
    work.mkdir()
    (work / "a.zip").write_bytes(b"a")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        _git(work, "2026-03-01T00:00:00+00:00", *words)
    raw = subprocess.run(["git", "cat-file", "commit", "HEAD"], cwd=work, capture_output=True, text=True, check=True)
    signed = raw.stdout.replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    made = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"], cwd=work, input=signed, capture_output=True, text=True, check=True
    )  # fmt: skip
    _git(work, "2026-03-01T00:00:00+00:00", "update-ref", "HEAD", made.stdout.strip())
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    program.chmod(0o755)
    _git(work, "2026-03-01T00:00:00+00:00", "config", "log.showSignature", "true")
    _git(work, "2026-03-01T00:00:00+00:00", "config", "gpg.program", str(program))
    _git(work, "2026-03-01T00:00:00+00:00", "config", "core.bare", "true")
    shutil.copytree(work / ".git", folder)
    (folder / "a.zip").write_bytes(b"a")
    for each in (work, folder):
        _received(each)
        assert not (tmp_path / "owned").exists(), each


def test_a_folder_without_submissions_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\*\.zip"):
        read_entries(tmp_path, None)
    with pytest.raises(UserError, match="expected a folder"):
        read_entries(tmp_path / "none", None)


def test_names_of_files_are_shown_without_what_cannot_be(tmp_path: Path) -> None:
    assert shown_name(Path("a\x1b[31m\udcff.zip")) == "a\ufffd[31m\ufffd.zip"


def test_costs_are_those_of_the_rows_own_submission(labs: dict[str, bytes]) -> None:
    def costs(number: float) -> bytes:
        return tampered(
            labs["second"], manifest=lambda m: [each.update(costs={"gmacs": number}) for each in m["methods"]]
        )

    (ranking,), _ = build_rankings([entry(costs(1.0)), entry(costs(2.0), "b.zip")])
    table = ranking.board.table
    assert {ranking.rows[row.method].entry.file: row.gmacs for row in table.itertuples()} == {
        "a.zip": 1.0,
        "b.zip": 2.0,
    }
