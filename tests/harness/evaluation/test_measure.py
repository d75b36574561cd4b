"""From logits to rows of metrics at the mask's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_methods
from PIL import Image
from support.evaluation import measured_images
from support.stores import ids
from torch import Tensor, nn

from harness.config import MetricsConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import TrialFailed, UserError
from harness.inference.predict import predict_images
from harness.methods.adapter import MethodAdapter
from harness.metrics import evaluate_pair
from harness.store.store import Store

SIZE = 64


@pytest.fixture
def dataset(shared_dataset: Path) -> Dataset:
    return Dataset.open(shared_dataset).select(max_per_domain=2)


@pytest.fixture
def cache(dataset: Dataset, tmp_path: Path) -> ArrayCache:
    return ArrayCache.open(dataset.samples, SIZE, tmp_path / "cache")


def measure(
    method: nn.Module, dataset: Dataset, cache: ArrayCache, keys: Sequence[str] | None = None, **options: Any
) -> Any:
    settings: dict[str, Any] = {"batch_size": 5, "amp": "off", "metrics": MetricsConfig()} | options
    return measured_images(
        method, keys or [sample.key for sample in dataset.samples], cache=cache, samples=dataset.by_key(),
        modalities=dataset.modalities(), device=torch.device("cpu"), **settings,
    )  # fmt: skip


class Oracle(nn.Module):
    """Answers with the true mask of each image, recognised by its pixels."""

    def __init__(self, cache: ArrayCache, scale: float = 1.0) -> None:
        super().__init__()
        self.answers = {image.tobytes(): mask for image, mask in zip(cache.images, cache.masks, strict=True)}
        self.scale = scale

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        arrays = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        masks = np.stack([self.answers[np.ascontiguousarray(array).tobytes()] for array in arrays])
        return torch.from_numpy(masks * 2.0 - 1.0)[:, None].float() * self.scale


def test_each_image_has_a_row_in_order_at_its_own_size(dataset: Dataset, cache: ArrayCache) -> None:
    keys = [sample.key for sample in reversed(dataset.samples)]
    rows = measure(Oracle(cache), dataset, cache, keys)
    assert [row["key"] for row in rows] == keys
    for row in rows:
        sample = dataset.by_key()[row["key"]]
        with Image.open(sample.mask) as mask:
            assert (row["width"], row["height"]) == mask.size
        assert (row["modality"], row["domain"], row["id"]) == tuple(row["key"].split("/"))
        assert (row["role"], row["subject"], row["empty"]) == ("test", sample.subject, "none")
        assert row["reference_pixels"] == int(read_mask(sample.mask).sum())
        # The mask went to 64 px and back: nearly the same, and surely not another image's.
        assert row["dice"] > 0.95
        assert row["hd95"] <= 2
    assert len({(row["width"], row["height"]) for row in rows}) > 1


def test_rows_are_the_metrics_of_the_predicted_mask(dataset: Dataset, cache: ArrayCache) -> None:
    torch.manual_seed(0)
    method = toy_methods.TinyConv(dataset.modalities())
    nn.init.normal_(method.decoder.weight)
    rows = measure(method, dataset, cache, metrics=MetricsConfig(nsd_tolerance=3.0))
    keys = [row["key"] for row in rows]
    masks = {
        found.key: found.mask
        for found in predict_images(
            method, keys, cache=cache, samples=dataset.by_key(), modalities=dataset.modalities(), batch_size=5,
            device=torch.device("cpu"), amp="off",
        )
    }  # fmt: skip
    assert 0 < np.mean([row["dice"] for row in rows]) < 1
    for row in rows:
        predicted = masks[row["key"]]
        reference = read_mask(dataset.by_key()[row["key"]].mask)
        expected = evaluate_pair(predicted, reference, nsd_tolerance=3.0, empty="diagonal")
        assert {key: row[key] for key in expected} == expected
        assert row["dice"] == pytest.approx(2 * (predicted & reference).sum() / (predicted.sum() + reference.sum()))
        assert row["predicted_pixels"] == predicted.sum()


def test_the_batch_size_changes_nothing(dataset: Dataset, cache: ArrayCache) -> None:
    method = toy_methods.TinyConv(dataset.modalities())
    assert measure(method, dataset, cache, batch_size=1) == measure(method, dataset, cache, batch_size=12)


def test_normalisation_layers_do_not_learn_from_what_is_tested(dataset: Dataset, cache: ArrayCache) -> None:
    method = toy_methods.TinyConv(dataset.modalities()).train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    measure(method, dataset, cache)
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())


@pytest.mark.parametrize("amp", ["off", "bfloat16"])
def test_mixed_precision_is_that_of_training(dataset: Dataset, cache: ArrayCache, amp: str) -> None:
    dtypes = set()

    class Watched(toy_methods.TinyConv):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            logits = super().predict(images, modality)
            dtypes.add(logits.dtype)
            return logits

    assert len(measure(Watched(dataset.modalities()), dataset, cache, amp=amp)) == len(dataset.samples)
    assert dtypes == {torch.bfloat16 if amp == "bfloat16" else torch.float32}


def test_the_empty_mask_policy_is_passed_on(dataset: Dataset, cache: ArrayCache) -> None:
    (row,) = measure(Oracle(cache, scale=0.0), dataset, cache, [dataset.samples[0].key])
    assert (row["empty"], row["dice"], row["predicted_pixels"]) == ("prediction", 0.0, 0)
    assert row["hd95"] == pytest.approx(np.hypot(row["width"], row["height"]))
    (row,) = measure(
        Oracle(cache, scale=0.0), dataset, cache, [dataset.samples[0].key], metrics=MetricsConfig(empty="nan")
    )
    assert np.isnan(row["hd95"])


def test_a_written_mask_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.eye(5, 7, dtype=bool)
    store, trial = Store(tmp_path), ids("t")
    store.write_mask(trial, "test", "a/b/c", mask)
    with Image.open(store.mask(trial, "test", "a/b/c")) as picture:
        assert picture.mode == "1"
        assert np.array_equal(np.asarray(picture), mask)

    def full(self: Image.Image, *args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="the disk is full"):
        store.write_mask(trial, "test", "a/b/d", mask)
    assert [path.name for path in store.mask(trial, "test", "a/b/c").parent.iterdir()] == ["c.png"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda images: torch.zeros(len(images), 2, SIZE, SIZE),
            r"logits of shape \(5, 2, 64, 64\), expected \(5, 1, 64, 64\)",
        ),
        (lambda images: torch.zeros(len(images), SIZE, SIZE), "logits of shape"),
        (lambda images: torch.zeros(1, 1, SIZE, SIZE), "logits of shape"),
        (lambda images: torch.full((len(images), 1, SIZE, SIZE), float("nan")), "gave NaN or infinite logits"),
        (lambda images: torch.full((len(images), 1, SIZE, SIZE), float("inf")), "gave NaN or infinite logits"),
    ],
)
def test_logits_that_cannot_be_used_fail_the_trial_by_name(
    dataset: Dataset, cache: ArrayCache, answer: Any, said: str
) -> None:
    class Wrong(nn.Module):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            return answer(images)

    with pytest.raises(TrialFailed, match=f"Wrong.predict gave.*{said.removeprefix('gave ')}"):
        measure(Wrong(), dataset, cache)


def test_a_mask_of_bool_is_not_taken_for_logits(dataset: Dataset, cache: ArrayCache) -> None:
    class Mask(nn.Module):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            return images.mean(1, keepdim=True) > 0.5

    with pytest.raises(TrialFailed, match=r"gave torch\.bool, expected logits"):
        measure(Mask(), dataset, cache)


def test_a_method_that_is_shown_the_truth_is_tested_with_it(dataset: Dataset, cache: ArrayCache) -> None:
    rows = measure(toy_methods.RepeatsTheTruth(dataset.modalities()), dataset, cache)
    assert min(row["dice"] for row in rows) > 0.95


@pytest.mark.parametrize("guess", [torch.tensor([7] * 5), torch.tensor([0.0] * 5), torch.tensor([[0]] * 5)])
def test_a_guess_that_is_no_modality_is_refused(dataset: Dataset, cache: ArrayCache, guess: Tensor) -> None:
    class Wrong(toy_methods.TinyConv):
        def guess_modality(self, images: Tensor) -> Tensor:
            return guess[: len(images)]

    with pytest.raises(TrialFailed, match=r"Wrong.guess_modality gave .* expected \(5,\) int64, each 0 to 1"):
        measure(Wrong(dataset.modalities()), dataset, cache)


def test_who_learns_from_test_images_meets_each_domain_with_the_trained_weights(
    dataset: Dataset, cache: ArrayCache
) -> None:
    method = toy_methods.LearnsAtTest(dataset.modalities())
    # Domains in turn: batches of two would mix them.
    keys = sorted((sample.key for sample in dataset.samples), key=lambda key: key.rsplit("/", 1)[1])
    rows = measure(method, dataset, cache, keys, batch_size=2)
    domains = {key.rsplit("/", 1)[0] for key in keys}
    assert method.resets == len(domains) + 1
    assert method.seen == 0
    # Everything is foreground while it saw two images: no domain started where another had ended.
    assert all(row["predicted_pixels"] == row["width"] * row["height"] for row in rows)
    assert {row["key"] for row in rows} == set(keys)


def test_a_failure_leaves_the_trained_weights(dataset: Dataset, cache: ArrayCache) -> None:
    class Fails(toy_methods.LearnsAtTest):
        def predict_adapting(self, images: Tensor, modality: Tensor) -> Tensor:
            super().predict_adapting(images, modality)
            return torch.full_like(images[:, :1], float("nan"))

    method = Fails(dataset.modalities())
    with pytest.raises(TrialFailed, match="NaN"):
        measure(method, dataset, cache)
    assert method.seen == 0


def test_epochs_are_compared_without_learning_from_the_images() -> None:
    method = toy_methods.LearnsAtTest(["xray"])
    images = torch.rand(1, 3, 8, 8)
    number = torch.zeros(1, dtype=torch.int64)
    assert torch.equal(MethodAdapter(method).answer(images, number, images[:, :1]), method.predict(images, number))
    assert method.seen == 0
