"""Recomputed from the masks: what is equal, what may differ, and what other data are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.submissions import packed, tampered, write_lab

from harness.config.schema import ProtocolConfig
from harness.data.dataset import Dataset
from harness.submissions import verifying
from harness.submissions.layout import IMAGES, METRICS, PREDICTIONS, Refused
from harness.submissions.reading import parse_submission
from harness.submissions.verifying import check_data, decode_mask, recompute


def test_every_number_is_recomputed(honest: bytes, data: Path) -> None:
    submission = parse_submission(honest)
    found = recompute(submission, Dataset.open(data))
    for name in METRICS:
        np.testing.assert_allclose(found.images[name], submission.images[name], rtol=1e-12)


def test_what_was_rounded_is_accepted_and_replaced(honest: bytes, data: Path) -> None:
    content = tampered(honest, tables={IMAGES: lambda table: table.assign(hd95=table["hd95"] * (1 + 1e-9))})
    found = recompute(parse_submission(content), Dataset.open(data))
    exact = parse_submission(honest).images["hd95"]
    assert found.images["hd95"].tolist() == exact.tolist()


@pytest.mark.parametrize("name", [name for name in METRICS if name not in ("dice", "precision", "recall")])
def test_one_forged_number_is_found(honest: bytes, data: Path, name: str) -> None:
    def forge(table: object) -> object:
        table.loc[3, name] *= 0.999  # type: ignore[attr-defined]
        return table

    with pytest.raises(Refused, match=f"1 of 72 rows have another {name}"):
        recompute(parse_submission(tampered(honest, tables={IMAGES: forge})), Dataset.open(data))  # type: ignore[dict-item]


def test_a_mask_exchanged_for_a_better_one_is_found(honest: bytes, data: Path) -> None:
    """Whoever sends other masks must send their numbers, too."""
    key = "dermoscopy/clinic_a/case_0"
    truth = (data / "dermoscopy" / "clinic_a" / "masks" / "case_0.png").read_bytes()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(truth)).convert("1").save(buffer, "PNG")

    def exchange(table: object) -> object:
        table.loc[table["key"] == key, "mask"] = buffer.getvalue()  # type: ignore[attr-defined, index]
        return table

    with pytest.raises(Refused, match="forged or damaged"):
        recompute(parse_submission(tampered(honest, tables={PREDICTIONS: exchange})), Dataset.open(data))  # type: ignore[dict-item]


def test_metrics_that_were_not_measured_are_computed(honest: bytes, data: Path) -> None:
    def forget(manifest: dict[str, list[dict[str, dict[str, int]]]]) -> None:
        for trial in manifest["trials"]:
            del trial["metrics"]["cldice"]

    content = tampered(honest, manifest=forget, tables={IMAGES: lambda table: table.assign(cldice=[None] * len(table))})
    submission = parse_submission(content)
    assert submission.images["cldice"].isna().all()
    assert recompute(submission, Dataset.open(data)).images["cldice"].notna().all()


@pytest.mark.parametrize("change", ["image", "mask", "subject", "one more"])
def test_other_data_are_refused(honest: bytes, data: Path, change: str) -> None:
    """The fingerprint covers images, masks and subjects of all roles."""
    dataset = Dataset.open(data)
    first, *others = dataset.samples
    changed = {
        "image": [replace(first, sha256_image="0" * 64)],
        "mask": [replace(first, sha256_mask="0" * 64)],
        "subject": [replace(first, subject="7")],
        "one more": [first, replace(first, id="case_9", sha256_image="1" * 64)],
    }
    with pytest.raises(Refused, match="other data"):
        check_data(parse_submission(honest), Dataset(dataset.root, (*changed[change], *others)))


def test_splits_that_the_protocol_does_not_give_are_refused(honest: bytes, data: Path) -> None:
    """A split of one's own choice has hashes that fit, and a protocol that does not."""

    def other(manifest: dict[str, list[dict[str, dict[str, int]]]]) -> None:
        for trial in manifest["trials"]:
            trial["protocol"]["split_seed"] = 5

    with pytest.raises(Refused, match="other data"):
        check_data(parse_submission(tampered(honest, manifest=other)), Dataset.open(data))


@pytest.mark.parametrize(
    "protocol", [ProtocolConfig(name="in_domain"), ProtocolConfig(scope="per_modality", max_folds=2)]
)
def test_other_protocols_and_rules_are_verified_too(data: Path, tmp_path: Path, protocol: ProtocolConfig) -> None:
    rules = {"empty": "nan", "nsd_tolerance": 1.0}
    store = write_lab(tmp_path, data, {"unet": 64}, protocol=protocol, metrics=rules)
    submission = parse_submission(packed(store).content)
    check_data(submission, Dataset.open(data))
    recompute(submission, Dataset.open(data))


def test_a_mask_is_read_as_the_store_wrote_it(data: Path) -> None:
    sample = Dataset.open(data).samples[0]
    mask = np.zeros((sample.height, sample.width), bool)
    mask[5:9, 3:30] = True
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    assert (decode_mask(buffer.getvalue(), sample) == mask).all()
    with pytest.raises(Refused, match="can't be read"):
        decode_mask(buffer.getvalue()[:60], sample)


def test_protocols_are_few(honest: bytes, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The splits of each are made anew: thousands of them would take hours."""

    def vary(manifest: dict[str, list[dict[str, dict[str, float]]]]) -> None:
        for place, trial in enumerate(manifest["trials"]):
            trial["protocol"]["test_fraction"] = 0.2 + place / 100  # another protocol, and equal splits

    sent = parse_submission(tampered(honest, manifest=vary))
    check_data(sent, Dataset.open(data))
    monkeypatch.setattr(verifying, "MOST_PROTOCOLS", 2)
    with pytest.raises(Refused, match="at most 2 protocols"):
        check_data(sent, Dataset.open(data))
