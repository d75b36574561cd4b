"""Splits of datasets of any shape: what must hold for all of them, and what is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import ProtocolConfig
from harness.data.dataset import Dataset, Sample
from harness.errors import UserError
from harness.protocols.leaks import check_split
from harness.protocols.rules import PROTOCOLS, Split, make_splits

HELD_OUT_PROTOCOLS = ("leave_one_domain_out", "single_source", "seen_to_unseen")


def sample(modality: str, domain: str, name: str, subject: str | None = None, content: str | None = None) -> Sample:
    path = f"{modality}/{domain}/{name}"
    return Sample(
        modality=modality,
        domain=domain,
        id=name,
        image=Path(f"/data/{path}.png"),
        mask=Path(f"/data/{path}_mask.png"),
        width=64,
        height=64,
        foreground_fraction=0.2,
        sha256_image=content or path,
        sha256_mask=f"mask of {path}",
        subject=subject,
    )


def dataset(samples: Iterable[Sample]) -> Dataset:
    return Dataset(Path("/data"), tuple(sorted(samples, key=lambda one: one.key)))


def grid(domains: dict[str, list[str]], images: int = 10, images_per_subject: int | None = None) -> Dataset:
    """Every domain with the same number of images."""
    return dataset(
        sample(modality, domain, f"{n:03d}", f"s{n // images_per_subject}" if images_per_subject else None)
        for modality, names in domains.items()
        for domain in names
        for n in range(images)
    )


TWO_MODALITIES = {"xray": ["a", "b", "c"], "fundus": ["d", "e"]}


@st.composite
def datasets(draw: st.DrawFn, fewest_domains: int = 2) -> Dataset:
    """One to three modalities with up to four domains of 2 to 7 images, some with subjects, some copied."""
    samples = []
    for modality in draw(st.lists(st.sampled_from(["xray", "fundus", "mri"]), min_size=1, max_size=3, unique=True)):
        for number in range(draw(st.integers(fewest_domains, 4))):
            domain = f"hospital_{number}"
            for image in range(draw(st.integers(2, 7))):
                subject = draw(st.none() | st.integers(0, 3).map(str))
                # Copies of one file inside a domain: they must not be parted.
                content = draw(
                    st.none() | st.integers(0, 3).map(lambda n, d=domain, m=modality: f"copy {n} of {m}/{d}")
                )
                samples.append(sample(modality, domain, f"{image:03d}", subject, content))
    return dataset(samples)


protocols = st.builds(
    ProtocolConfig,
    name=st.sampled_from(sorted(PROTOCOLS)),
    scope=st.sampled_from(["universal", "per_modality"]),
    max_folds=st.none() | st.integers(1, 5),
    validation_fraction=st.floats(0.01, 0.9),
    test_fraction=st.floats(0.01, 0.9),
    split_seed=st.integers(0, 3),
)


def splits_or_refusal(data: Dataset, protocol: ProtocolConfig) -> list[Split]:
    """`in_domain` may refuse a domain whose images are all of one subject, and nothing else."""
    try:
        return make_splits(data, protocol)
    except UserError as error:
        assert protocol.name == "in_domain" and "at least two subjects" in str(error)
        return []


@given(datasets(), protocols)
@settings(max_examples=80, deadline=None)
def test_every_split_of_any_dataset_is_sound(data: Dataset, protocol: ProtocolConfig) -> None:
    samples = data.by_key()
    splits = splits_or_refusal(data, protocol)
    for split in splits:
        roles = [set(split.train), set(split.validation), set(split.test)]
        assert sum(map(len, roles)) == len(set().union(*roles))
        assert split.train and split.test
        check_split(split, samples)
        seen = {samples[key].domain_key for key in split.train}
        tested = {samples[key].domain_key for key in split.test}
        assert {samples[key].domain_key for key in split.validation} <= seen
        if protocol.name == "in_domain":
            assert split.held_out == () and tested == seen
        else:
            assert set(split.held_out) == tested and not tested & seen
            # A held-out domain is tested whole.
            assert set(split.test) == {key for key, one in samples.items() if one.domain_key in tested}
        if protocol.scope == "per_modality":
            assert len({samples[key].modality for key in split.train + split.test}) == 1
        else:
            assert {samples[key].modality for key in split.train} == set(data.modalities())
    assert len({split.name for split in splits}) == len(splits)


@given(datasets(), protocols)
@settings(max_examples=30, deadline=None)
def test_same_words_same_splits_in_whatever_order_the_samples_come(data: Dataset, protocol: ProtocolConfig) -> None:
    shuffled = Dataset(Path("/elsewhere"), tuple(reversed(data.samples)))
    assert splits_or_refusal(data, protocol) == splits_or_refusal(shuffled, protocol)


@given(datasets(), st.sampled_from(["universal", "per_modality"]), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_leave_one_domain_out_tests_every_domain(data: Dataset, scope: str, split_seed: int) -> None:
    splits = make_splits(data, ProtocolConfig(scope=scope, split_seed=split_seed))
    richest = max(len(data.domains(modality)) for modality in data.modalities())
    times = Counter(domain for split in splits for domain in split.held_out)
    for modality in data.modalities():
        own = data.domains(modality)
        for index, domain in enumerate(own):
            expected = 1 if scope == "per_modality" else len(range(index, richest, len(own)))
            assert times[f"{modality}/{domain}"] == expected >= 1
    assert len(splits) == (richest if scope == "universal" else len(times))


@given(datasets(), st.floats(0.05, 0.5), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_validation_is_a_part_of_every_training_domain_that_can_be_parted(
    data: Dataset, fraction: float, split_seed: int
) -> None:
    samples = data.by_key()
    protocol = ProtocolConfig(scope="per_modality", validation_fraction=fraction, split_seed=split_seed)
    for split in make_splits(data, protocol):
        roles = dict.fromkeys(split.train, "train") | dict.fromkeys(split.validation, "validation")
        for domain in {samples[key].domain_key for key in split.train}:
            own = [one for one in data.samples if one.domain_key == domain]
            validation = [one for one in own if roles[one.key] == "validation"]
            training = [one for one in own if roles[one.key] == "train"]
            marks = [
                {mark for one in part for mark in (one.sha256_image, one.subject and f"subject {one.subject}") if mark}
                for part in (training, validation)
            ]
            assert not marks[0] & marks[1]
            assert training
            alone = all(one.subject is None for one in own) and len({one.sha256_image for one in own}) == len(own)
            if alone and len(own) >= 2:
                expected = min(max(1, fraction * len(own)), len(own) - 1)
                assert abs(len(validation) - expected) <= 0.5 + 1e-9


def test_a_domain_s_validation_images_don_t_depend_on_the_others() -> None:
    small = make_splits(grid({"xray": ["a", "b"]}, images=20), ProtocolConfig(scope="per_modality"))
    large = make_splits(grid(TWO_MODALITIES, images=20), ProtocolConfig())

    def of_a(splits: list[Split]) -> set[str]:
        return {key for split in splits for key in split.validation if key.startswith("xray/a/")}

    assert len(of_a(small)) == 3 and of_a(small) == of_a(large)


def test_the_split_seed_changes_validation_and_nothing_else() -> None:
    data = grid(TWO_MODALITIES)
    first, second = (make_splits(data, ProtocolConfig(split_seed=seed)) for seed in (0, 1))
    assert [split.validation for split in first] != [split.validation for split in second]
    assert [(split.name, split.test) for split in first] == [(split.name, split.test) for split in second]


def test_a_universal_fold_holds_out_one_domain_of_every_modality_in_turn() -> None:
    splits = make_splits(grid(TWO_MODALITIES), ProtocolConfig())
    assert [split.name for split in splits] == ["fold0", "fold1", "fold2"]
    assert [split.held_out for split in splits] == [
        ("fundus/d", "xray/a"),
        ("fundus/e", "xray/b"),
        ("fundus/d", "xray/c"),
    ]


def test_max_folds_keeps_the_first_folds() -> None:
    data = grid(TWO_MODALITIES)
    for name in HELD_OUT_PROTOCOLS:
        every, two = (make_splits(data, ProtocolConfig(name=name, max_folds=cap)) for cap in (None, 2))
        assert two == every[:2]
    names = [split.name for split in make_splits(data, ProtocolConfig(scope="per_modality", max_folds=2))]
    assert names == ["xray-a", "xray-b", "fundus-d", "fundus-e"]


def test_single_source_trains_on_one_domain_and_tests_all_others() -> None:
    splits = make_splits(grid(TWO_MODALITIES), ProtocolConfig(name="single_source", scope="per_modality"))
    assert [split.name for split in splits][:3] == ["xray-from-a", "xray-from-b", "xray-from-c"]
    assert {key.split("/")[1] for key in splits[1].train} == {"b"}
    assert splits[1].held_out == ("xray/a", "xray/c")


def test_seen_to_unseen_takes_the_given_pairs_and_only_these() -> None:
    pairs = {"xray": {"seen": ["b"], "unseen": ["a"]}}
    (split,) = make_splits(grid(TWO_MODALITIES), ProtocolConfig(name="seen_to_unseen", pairs=pairs))
    assert {key.split("/")[1] for key in split.train} == {"b"} and split.held_out == ("xray/a",)


def test_seen_to_unseen_without_pairs_sees_the_first_half() -> None:
    (split,) = make_splits(grid(TWO_MODALITIES), ProtocolConfig(name="seen_to_unseen"))
    assert {"/".join(key.split("/")[:2]) for key in split.train} == {"xray/a", "xray/b", "fundus/d"}
    assert split.held_out == ("fundus/e", "xray/c")


def test_in_domain_keeps_subjects_together_and_tests_every_domain() -> None:
    data = grid(TWO_MODALITIES, images=40, images_per_subject=4)
    (split,) = make_splits(data, ProtocolConfig(name="in_domain"))
    tested = Counter("/".join(key.split("/")[:2]) for key in split.test)
    assert tested == {"xray/a": 8, "xray/b": 8, "xray/c": 8, "fundus/d": 8, "fundus/e": 8}


@pytest.mark.parametrize("parts", [("train", "validation", "test"), ("train", "test")])
def test_in_domain_keeps_to_an_official_division(parts: tuple[str, ...]) -> None:
    samples = [replace(sample("fundus", "drive", f"{n:02d}"), split=parts[n % len(parts)]) for n in range(30)]
    others = [sample("fundus", "stare", f"{n:02d}") for n in range(10)]  # has none: divided as ever
    (split,) = make_splits(dataset([*samples, *others]), ProtocolConfig("in_domain"))
    official = {part: {one.key for one in samples if one.split == part} for part in parts}
    roles = {"train": split.train, "validation": split.validation, "test": split.test}
    found = {role: {key for key in keys if "/drive/" in key} for role, keys in roles.items()}
    assert found["test"] == official["test"]
    if "validation" in parts:
        assert found["validation"] == official["validation"] and found["train"] == official["train"]
    else:  # taken from the training images, as without a division
        assert found["validation"] and found["train"] | found["validation"] == official["train"]
    assert any("/stare/" in key for key in split.test)


def test_half_of_an_official_division_is_none() -> None:
    """An image in no part could be anything: the usual rule decides, and every image is used."""
    samples = [replace(sample("fundus", "drive", f"{n:02d}"), split="test" if n < 10 else None) for n in range(20)]
    (split,) = make_splits(dataset(samples), ProtocolConfig("in_domain"))
    assert len(split.test) == 4 and len(split.keys) == 20


def test_held_out_domains_are_tested_whole() -> None:
    samples = [
        replace(sample("fundus", d, f"{n}"), split=("train", "test")[n % 2]) for d in ("a", "b") for n in range(6)
    ]
    for split in make_splits(dataset(samples), ProtocolConfig()):
        assert len(split.test) == 6


def test_copies_that_join_two_subjects_keep_both_together() -> None:
    images = [sample("xray", "a", f"{n}", f"s{n // 2}") for n in range(8)]
    images[2] = replace(images[2], sha256_image=images[0].sha256_image)
    for seed in range(20):
        protocol = ProtocolConfig(name="in_domain", test_fraction=0.5, split_seed=seed)
        (split,) = make_splits(dataset(images), protocol)
        places = [
            role for role in ("train", "validation", "test") for n in range(4) if f"xray/a/{n}" in getattr(split, role)
        ]
        assert len(places) == 4 and len(set(places)) == 1


def test_a_large_subject_is_not_chosen_for_a_small_validation_set() -> None:
    images = [sample("xray", "a", f"big{n:02d}", "big") for n in range(30)]
    images += [sample("xray", "a", f"small{n}", f"small{n}") for n in range(3)]
    images += [sample("xray", "b", f"{n}") for n in range(3)]
    for seed in range(10):
        fold = make_splits(dataset(images), ProtocolConfig(validation_fraction=0.1, split_seed=seed))[1]
        assert len(fold.validation) == 3 and all("small" in key for key in fold.validation)


@pytest.mark.parametrize("name", HELD_OUT_PROTOCOLS)
def test_a_modality_with_one_domain_is_refused_by_name(name: str) -> None:
    data = grid({"xray": ["a", "b"], "fundus": ["drive"]})
    with pytest.raises(UserError) as caught:
        make_splits(data, ProtocolConfig(name=name))
    message = str(caught.value)
    for word in (name, "fundus", "'drive'", "/data/fundus/<domain>", "data.modalities=[xray]", "protocol=in_domain"):
        assert word in message
    assert make_splits(data, ProtocolConfig(name="in_domain"))


def test_pairs_that_lack_a_domain_are_left_out_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    data = grid({"xray": ["shenzhen", "montgomery"], "fundus": ["drive", "stare"]})
    pairs = {
        "dermoscopy": {"seen": ["isic2018"], "unseen": ["ph2"]},
        "xray": {"seen": ["shenzhen", "montgomery"], "unseen": ["nih"]},
        "fundus": {"seen": ["drive"], "unseen": ["stare"]},
    }
    protocol = ProtocolConfig(name="seen_to_unseen", pairs=pairs, missing="skip")
    (split,) = make_splits(data, protocol)
    assert split.held_out == ("fundus/stare",) and all(key.startswith("fundus/") for key in split.keys)
    assert "lacks domains of 2 of 3 pairs" in caplog.text
    assert "xray: nih (`data prepare nih`, from http" in caplog.text and "ph2 (`data prepare ph2`" in caplog.text
    with pytest.raises(UserError, match="the dataset has no modality 'dermoscopy'"):
        make_splits(data, replace(protocol, missing="error"))
    with pytest.raises(
        UserError, match=r"lacks domains of 1 of 1 pairs:\n  dermoscopy: isic2018 \(`data prepare isic2018`"
    ):
        make_splits(data, replace(protocol, pairs={"dermoscopy": pairs["dermoscopy"]}))


XRAY = {"seen": ["a"], "unseen": ["b"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "leave_one_out"}, "Unknown protocol 'leave_one_out'. Did you mean 'leave_one_domain_out'?"),
        ({"scope": "per_modalty"}, "protocol.scope 'per_modalty'. Did you mean 'per_modality'?"),
        ({"max_folds": 0}, "protocol.max_folds=0: expected a whole number from 1 up"),
        ({"validation_fraction": 1.0}, "protocol.validation_fraction=1.0: expected a number between 0 and 1"),
        ({"test_fraction": 0.0}, "protocol.test_fraction=0.0"),
        ({"pairs": {}}, "protocol.pairs is empty"),
        ({"pairs": {"xrays": XRAY}}, "no modality 'xrays'. Did you mean 'xray'?"),
        ({"pairs": {"xray": ["a"]}}, "protocol.pairs.xray: expected {seen: [domain, ...], unseen: [domain, ...]}"),
        ({"pairs": {"xray": {**XRAY, "test": ["c"]}}}, "protocol.pairs.xray: expected"),
        ({"pairs": {"xray": {"seen": "a", "unseen": ["b"]}}}, "protocol.pairs.xray.seen: expected a list"),
        ({"pairs": {"xray": {"seen": ["a"], "unseen": []}}}, "protocol.pairs.xray.unseen: expected a list of at least"),
        ({"pairs": {"xray": {"seen": ["a"], "unseen": ["z"]}}}, "protocol.pairs.xray.unseen: xray has no domain 'z'"),
        ({"pairs": {"xray": {"seen": ["a", "b"], "unseen": ["b"]}}}, "b can't be both seen and unseen"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], words: str) -> None:
    protocol = ProtocolConfig(**{"name": "seen_to_unseen", **changes})
    with pytest.raises(UserError, match=re.escape(words)):
        make_splits(grid(TWO_MODALITIES), protocol)


def test_no_images_is_an_error_that_names_the_folder() -> None:
    with pytest.raises(UserError, match="no images to split in /data"):
        make_splits(dataset([]), ProtocolConfig())


def test_in_domain_refuses_a_domain_of_a_single_subject() -> None:
    images = [sample("xray", "a", f"{n}", "same") for n in range(5)]
    with pytest.raises(UserError, match="xray/a has one"):
        make_splits(dataset(images), ProtocolConfig(name="in_domain"))


@pytest.mark.real
def test_the_real_images_split_into_three_folds_that_cover_every_domain(real_data: Path) -> None:
    data = Dataset.open(real_data, verify=False)
    splits = make_splits(data, ProtocolConfig())
    assert len(splits) == 3
    held_out = sorted(domain for split in splits for domain in split.held_out)
    assert held_out == sorted({one.domain_key for one in data.samples})
    for split in splits:
        check_split(split, data.by_key())
    assert all(first.test != second.test for first, second in pairwise(splits))
