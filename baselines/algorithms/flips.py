"""Test-time flips: the mean over an image and its mirror images.

Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation with convolutional
neural networks", Neurocomputing 338, 2019, arXiv 1807.07356, has flips among its augmentations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.batch_norm import check_predicts

_FLIPS = ((), (-1,), (-2,), (-2, -1))
Predict = Callable[[Tensor, Tensor], Tensor]


class Flips(Algorithm):
    """Trained as the method is; the tested logits are the mean over the image as it is, and mirrored along each axis and both.

    No image tells it anything of another. It costs four passes an image; epochs are compared by one.

    Raises:
        ValueError: a method that is prompted with the true masks.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module]) -> None:
        super().__init__(modalities, method)
        check_predicts(self.method, "Flips")

    def predict_tested(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1], (B,) int64 -> logits (B, 1, S, S)."""
        return mean_over_flips(self.method.predict, images, modality)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "use_cache":  # it changes no image that is learned from
            return super().__getattr__("method").use_cache
        if name == "accelerated":
            own = super().__getattr__("method").accelerated
            return lambda *costs: None if (form := own(*costs)) is None else _Accelerated(form)
        return super().__getattr__(name)


class _Accelerated:
    """The method's fastest form, over flips."""

    def __init__(self, form: Any) -> None:
        self.form = form

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return mean_over_flips(self.form.predict, images, modality)


def mean_over_flips(predict: Predict, images: Tensor, modality: Tensor) -> Tensor:
    """The mean logits (B, 1, S, S) over four orientations, each turned back."""
    answers = [predict(images.flip(axes), modality).flip(axes) for axes in _FLIPS]
    return sum(answers[1:], answers[0]) / len(answers)
