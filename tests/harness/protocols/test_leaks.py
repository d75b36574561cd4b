"""Each kind of leak is found, and the message names the files and the remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.dataset import Sample
from harness.errors import UserError
from harness.protocols.leaks import check_split
from harness.protocols.rules import Split


def sample(domain: str, name: str, subject: str | None = None, modality: str = "xray") -> Sample:
    path = f"{modality}/{domain}/{name}"
    return Sample(
        modality=modality,
        domain=domain,
        id=name,
        image=Path(f"/data/{path}.png"),
        mask=Path(f"/data/{path}_mask.png"),
        width=8,
        height=8,
        foreground_fraction=0.5,
        sha256_image=path,
        sha256_mask=path,
        subject=subject,
    )


SAMPLES = {
    one.key: one
    for one in [
        sample("a", "1", "s1"),
        sample("a", "2", "s1"),
        sample("a", "3", "s3"),
        sample("a", "4"),
        sample("b", "1", "s1"),
        sample("b", "2"),
    ]
}
SOUND = Split(
    "fold0",
    train=("xray/a/1", "xray/a/2"),
    validation=("xray/a/3", "xray/a/4"),
    test=("xray/b/1", "xray/b/2"),
    held_out=("xray/b",),
)


def message(split: Split, samples: dict[str, Sample] = SAMPLES) -> str:
    with pytest.raises(UserError) as caught:
        check_split(split, samples)
    return str(caught.value)


def test_a_sound_split_passes() -> None:
    # Subject s1 exists in both domains: a subject's name means nothing outside its domain.
    check_split(SOUND, SAMPLES)


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_test_image_in_training(role: str) -> None:
    split = replace(SOUND, **{role: (*getattr(SOUND, role), "xray/b/1")})
    text = message(split)
    assert "Leak in split 'fold0'" in text and "the same image is listed in both" in text
    assert f"{role} image /data/xray/b/1.png and test image /data/xray/b/1.png" in text
    assert "make the split again" in text


def test_an_image_in_training_and_validation() -> None:
    text = message(replace(SOUND, validation=("xray/a/1",)))
    assert "train image /data/xray/a/1.png and validation image /data/xray/a/1.png" in text


def test_an_image_twice_in_one_role() -> None:
    assert "train image /data/xray/a/1.png and train image" in message(replace(SOUND, train=("xray/a/1", "xray/a/1")))


@pytest.mark.parametrize(
    ("key", "copy_of", "roles"),
    [
        ("xray/b/1", "xray/a/1", ("train", "test")),
        ("xray/b/2", "xray/a/3", ("validation", "test")),
        ("xray/a/3", "xray/a/2", ("train", "validation")),
    ],
)
def test_a_copied_file_in_two_roles(key: str, copy_of: str, roles: tuple[str, str]) -> None:
    copied = SAMPLES | {key: replace(SAMPLES[key], sha256_image=SAMPLES[copy_of].sha256_image)}
    text = message(SOUND, copied)
    assert f"{roles[0]} image /data/{copy_of}.png and {roles[1]} image /data/{key}.png: the files are equal" in text
    assert "manifest.csv" in text


def test_a_copy_of_another_modality_is_found_too() -> None:
    copied = sample("c", "1", modality="ultrasound")
    samples = SAMPLES | {copied.key: replace(copied, sha256_image=SAMPLES["xray/b/1"].sha256_image)}
    assert "the files are equal" in message(replace(SOUND, train=(*SOUND.train, copied.key)), samples)


def test_copies_in_one_role_are_allowed() -> None:
    check_split(SOUND, SAMPLES | {"xray/a/2": replace(SAMPLES["xray/a/2"], sha256_image="xray/a/1")})


def test_several_leaks_are_counted() -> None:
    copied = SAMPLES | {f"xray/b/{n}": replace(SAMPLES[f"xray/b/{n}"], sha256_image=f"xray/a/{n}") for n in (1, 2)}
    assert "(2 such pairs)" in message(SOUND, copied)


def test_a_subject_in_two_roles() -> None:
    text = message(replace(SOUND, train=("xray/a/1",), validation=("xray/a/2",)))
    assert "train image /data/xray/a/1.png and validation image /data/xray/a/2.png: they show the same subject" in text
    assert "`subject` column" in text


def test_a_subject_in_training_and_test_of_the_same_domain() -> None:
    split = Split("in-domain", train=("xray/a/1",), validation=(), test=("xray/a/2",), held_out=())
    assert "the same subject" in message(split)


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_held_out_domain_in_training(role: str) -> None:
    split = replace(SOUND, **{role: (*getattr(SOUND, role), "xray/b/2")}, test=("xray/b/1",))
    text = message(split)
    assert f"/data/xray/b/2.png is used for {role}, yet its domain xray/b is held out" in text
    assert "protocol=in_domain" in text


def test_a_test_image_from_outside_the_held_out_domains() -> None:
    text = message(replace(SOUND, validation=(), test=("xray/b/1", "xray/a/4")))
    assert "/data/xray/a/4.png is of xray/a, which is not among the held-out domains (xray/b)" in text


def test_in_domain_splits_hold_out_no_domain() -> None:
    check_split(Split("in-domain", ("xray/a/1", "xray/a/2"), ("xray/a/3",), ("xray/a/4",), ()), SAMPLES)


def test_a_key_that_the_dataset_lacks() -> None:
    assert "test image 'xray/b/9' is not in the dataset" in message(replace(SOUND, test=("xray/b/9",)))


@pytest.mark.parametrize("role", ["train", "test"])
def test_no_images(role: str) -> None:
    assert f"has no {role} images" in message(replace(SOUND, **{role: ()}))
