"""TENT: learns from test images to be surer of its predictions.

Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization", ICLR 2021, arXiv 2006.10726.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from baselines.algorithms.base import Algorithm
from baselines.algorithms.batch_norm import batch_statistics, check_predicts
from baselines.algorithms.other_weights import with_weights
from baselines.algorithms.settings import check_range


class TENT(Algorithm):
    """Trained as the method is; at test time one step of Adam a batch on the mean entropy of its pixels.

    Only scales and shifts of normalisation layers learn; batch norm uses the batch's statistics alone. A batch's
    predictions are those before its step, from the same pass, as in the official code; the next batch of the domain meets the weights after it.
    Beside batch norm, the paper's, layer and group norms learn, too: some networks have no other. The method's own
    weights never change.

    Args:
        learning_rate: of Adam: 0.001, the paper's outside ImageNet, and the official code's.

    Raises:
        ValueError: a negative `learning_rate`, or a method without normalisation layers or without `predict`.
    """

    def __init__(
        self, modalities: Sequence[str], method: Callable[..., nn.Module], learning_rate: float = 1e-3
    ) -> None:
        super().__init__(modalities, method)
        check_range("TENT", "learning_rate", learning_rate, 0)
        self.learning_rate = learning_rate
        check_predicts(self.method, "TENT")
        if not _affine_parameters(self.method):
            raise ValueError(
                f"TENT: expected normalisation layers with a scale and a shift (BatchNorm, GroupNorm, LayerNorm),"
                f" {type(self.method).__name__} has none. Leave this pair out."
            )
        self._adapted: dict[str, Tensor] = {}
        self._optimizer: torch.optim.Adam | None = None

    def predict_adapting(self, images: Tensor, modality: Tensor) -> Tensor:
        """As `predict`, with weights that learned from the batches since the last reset, and learn from this one."""
        with torch.inference_mode(False), torch.enable_grad():
            if self._optimizer is None:
                parameters = _affine_parameters(self.method)
                self._adapted = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
                self._optimizer = torch.optim.Adam(self._adapted.values(), self.learning_rate)
            # Tensors made in inference mode can't take part in a graph; copies can.
            images, modality = images.clone(), modality.clone()
            with batch_statistics(self.method, prior=0):
                logits: Tensor = with_weights(
                    self.method,
                    self._adapted,
                    lambda method: method.predict(images, modality),  # type: ignore[operator]
                )
            gradients = torch.autograd.grad(entropy(logits), list(self._adapted.values()), allow_unused=True)
            for parameter, gradient in zip(self._adapted.values(), gradients, strict=True):
                parameter.grad = gradient
            self._optimizer.step()
        return logits.detach()

    def reset_adaptation(self) -> None:
        """Forgets all test images."""
        self._adapted, self._optimizer = {}, None


def entropy(logits: Tensor) -> Tensor:
    """The mean over pixels of the entropy of sigmoid(logits), in nats; a scalar in float32."""
    with torch.autocast(logits.device.type, enabled=False):
        z = logits.float()
        return (F.softplus(z) - z * z.sigmoid()).mean()


def _affine_parameters(method: nn.Module) -> dict[str, nn.Parameter]:
    return {
        f"{prefix}.{name}".lstrip("."): parameter
        for prefix, module in method.named_modules()
        if isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm)
        for name, parameter in module.named_parameters(recurse=False)
    }
