"""MixStyle: features get the mixed style of two images.

Zhou, Yang, Qiao, Xiang, "Domain Generalization with MixStyle", ICLR 2021, arXiv 2104.02008.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from baselines.algorithms.changed_features import ChangedFeatures
from baselines.algorithms.draws import beta, partners
from baselines.algorithms.settings import check_name, check_range


class MixStyle(ChangedFeatures):
    """Means and standard deviations of early features are mixed between images, without gradient through them.

    A partner is of the same modality, which is where the domains of this bench lie (the paper:
    any image of the batch). With a batch of one image nothing happens.

    Args:
        probability: 0.5: the paper's.
        alpha: the weight is from Beta(alpha, alpha). 0.1: the paper's and the official README's; one version of the
            official layer has 0.3.
        mix: `random`: a partner is any other image; `crossdomain`: one of another domain where the batch has one.
        layers: 3: of a ResNet here, the stem and two blocks. The paper: several lower layers are best (for PACS three
            blocks, for other data two), and the deepest hurts; it is never among them.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        probability: float = 0.5,
        alpha: float = 0.1,
        mix: str = "random",
        layers: int = 3,
    ) -> None:
        super().__init__(modalities, method, probability, layers)
        check_range("MixStyle", "alpha", alpha, 0.01)
        check_name("MixStyle", "mix", mix, ("random", "crossdomain"))
        self.alpha, self.mix = alpha, mix

    def style(self, mean: Tensor, std: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        mean, std = mean.detach(), std.detach()
        partner = partners(batch, other_domain=self.mix == "crossdomain")
        own = beta(len(mean), self.alpha, mean.device).flatten(1)
        return own * mean + (1 - own) * mean[partner], own * std + (1 - own) * std[partner]
