"""Multi-modal decoupled knowledge distillation (MDKD): De-LightSAM taught by a SAM ViT.

Xu et al., "De-LightSAM", IEEE TCSVT 2025, arXiv 2407.14153v5. The stages, each of which can be left out:

- common: the student's encoder, without controllers, imitates the embeddings of SAM as it is. No masks are looked at.
  Starting from MobileSAM, which was made so, takes its place.
- teacher: SAM stays frozen; its tokens and adapters learn per modality, together with SP-Generator and QM-Decoder, by the
  segmentation loss. A teacher without pretrained weights learns as a whole: a random one has nothing to teach.
- controllers: SP-Generator and QM-Decoder work on as the teacher left them; the student's controllers alone learn, to
  give the embeddings of the adapted teacher.
- decode, joint: see delightsam.training.stages. `joint` may go on imitating beside the segmentation loss (`distillation_weight`).
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from delightsam.modeling.controllers import Mixture
from delightsam.modeling.model import Outputs
from delightsam.modeling.preprocessing import normalise
from delightsam.training.embedding_cache import WeightsDigest, embedding_setting
from delightsam.training.method import DeLightSAMMethod, TrainingBatch, TrainingStep, modality_of, names_of, prepared_of
from delightsam.training.stages import DECODE, JOINT, Stage
from delightsam.training.teacher import PUBLISHED_AT, TEACHER_SIZES, SamTeacher
from delightsam.weights.weights_files import WeightsError, check_shapes, existing_file

COMMON, TEACHER, CONTROLLERS = "common", "teacher", "controllers"

_BASE = "teacher.vit."


class MDKDMethod(DeLightSAMMethod):
    """A DeLightSAM student and its teacher. What is tested and deployed is the student, unless `teacher` is the last stage.

    Weights of the teacher that come from a file never change, so checkpoints and kept weights leave them out.

    Args:
        modalities: names, as for DeLightSAMMethod.
        teacher: size of the SAM ViT: "b", "l", "h", or "tiny".
        teacher_weights: path of its file (see SamTeacher). Null, for "tiny" only: random weights that learn in the stage
            `teacher`.
        start_from: null, or the path of the weights that an earlier training of the same architecture and teacher kept
            (its state dict as safetensors): for the stages in trainings of their own, one after another.
        distillation_weight: factor of the imitation's loss that `joint` adds to the segmentation loss.
        stages: as for DeLightSAMMethod, with `common`, `teacher` and `controllers` beside `decode` and `joint`. Those that
            imitate see each image in `views` fixed versions, whose teacher embeddings are kept on the disk; with
            `views: null` every image is augmented and embedded anew each time, which only a small teacher affords.
        **settings: everything else is DeLightSAMMethod's.

    Raises:
        ValueError: a wrong setting, or a stage that needs one before it.
        WeightsError: a weights file that is missing, damaged, or does not fit.
    """

    through_teacher: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        teacher: str = "b",
        teacher_weights: str | None = None,
        start_from: str | None = None,
        distillation_weight: float = 0.0,
        stages: Sequence[str | Mapping[str, Any]] = (COMMON, TEACHER, CONTROLLERS),
        **settings: Any,
    ) -> None:
        self._teacher_learns = teacher_weights is None
        super().__init__(modalities, stages=stages, **settings)
        if distillation_weight < 0:
            raise ValueError(f"`distillation_weight` is at least 0; found {distillation_weight}.")
        self.distillation_weight = distillation_weight
        self._views = {stage.name: stage.views for stage in self._stages}
        _check_order(list(self._views), teacher, self._teacher_learns, started=start_from is not None)
        # After the student, which so starts from the same numbers with and without a teacher.
        self.teacher = SamTeacher(self.numbers.tolist(), teacher, teacher_weights)
        self._base_digest, self._teacher_digest = WeightsDigest(), WeightsDigest()
        # True while the stage `teacher` is the last that learnt; a part of what the weights mean, so kept with them.
        self.register_buffer("through_teacher", torch.tensor(False))
        if not self._teacher_learns:
            self.register_state_dict_post_hook(_leave_base_out)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(_put_base_back)  # type: ignore[no-untyped-call]
        if start_from is not None:
            self._start_from(start_from)
        self.through_teacher.fill_(self._stages[-1].name == TEACHER)

    def training_loss(self, batch: TrainingBatch, step: TrainingStep) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch in the stage `step.stage`, and its terms."""
        self.set_flag("through_teacher", step.stage == TEACHER)
        self.set_flag("without_controllers", step.stage == DECODE)
        if step.stage in (COMMON, CONTROLLERS):
            numbers = None if step.stage == COMMON else self.numbers_of(modality_of(batch))
            if step.stage == CONTROLLERS:
                self.network.encoder.eval()
            images = normalise(batch.images, self.network.config.preprocessing)
            loss = self._imitation_loss(self.network.encode(images, numbers), batch, numbers, step.stage)
            return loss, {"imitation": loss.detach()}
        outputs = self.outputs(batch.images, modality_of(batch), names=names_of(batch), embedding=prepared_of(batch))
        loss, terms = self.segmentation_loss(outputs, batch.masks)
        if step.stage == JOINT and self.distillation_weight:
            numbers = self.numbers_of(modality_of(batch))
            imitation = self._imitation_loss(outputs.embedding, batch, numbers, step.stage)
            loss, terms = loss + self.distillation_weight * imitation, terms | {"imitation": imitation.detach()}
        return loss, terms

    def outputs(
        self,
        images: Tensor,
        modality: Tensor | Sequence[int] | Mixture,
        patches: Tensor | None = None,
        names: Sequence[str] | None = None,
        embedding: Tensor | None = None,
    ) -> Outputs:
        """As DeLightSAMMethod's; in and after the stage `teacher`, of the teacher's embeddings."""
        if not self.flag("through_teacher") or isinstance(modality, Mixture):
            return super().outputs(images, modality, patches, names, embedding)
        numbers = self.numbers_of(modality)
        embedding = self.teacher(images, self._grid(images), numbers)
        return self.network.decode(embedding, numbers, (images.shape[-2], images.shape[-1]), patches)

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module | None:
        """Of the student; None while the teacher predicts."""
        return None if self.flag("through_teacher") else super().accelerated(image_size, batch_size, dtype)

    def deployed_parameters(self) -> Iterable[nn.Parameter]:
        """Those needed at test time: the student's, or where the teacher predicts, its own with prompts and decoder."""
        if not self.flag("through_teacher"):
            return self.network.parameters()
        needed = ("teacher.", "network.prompts.", "network.decoder.")
        return [parameter for name, parameter in self.named_parameters() if name.startswith(needed)]

    def active_parameters(self) -> int:
        """Parameters that take part for an image of one modality."""
        active = super().active_parameters()
        if self.flag("through_teacher"):
            active += _count(self.teacher.vit) - _count(self.network.encoder)
            active += _count_each(self.teacher.controllers) - _count_each(self.network.controllers)
        return active

    def _available_stages(self, pretrained: bool) -> dict[str, Stage]:
        heads = ("network.prompts.*", "network.decoder.*")
        base = (f"{_BASE}*",) if self._teacher_learns else ()
        stages = (
            # The student has no decoder that fits yet: a validation Dice would say nothing.
            Stage(COMMON, share=3, trainable=("network.encoder.*",), views=4, scored=False),
            Stage(TEACHER, share=3, trainable=("teacher.controllers.*", *base, *heads)),
            Stage(CONTROLLERS, share=2, trainable=("network.controllers.*",), views=4),
        )
        return {**super()._available_stages(pretrained), **{stage.name: stage for stage in stages}}

    def _imitation_loss(
        self, embedding: Tensor, batch: TrainingBatch, numbers: Sequence[int] | None, stage: str
    ) -> Tensor:
        names = names_of(batch) if self._views[stage] is not None else None
        target = self._teacher_embedding(batch.images, numbers, names)
        return F.mse_loss(embedding.float(), target.float())

    @torch.no_grad()
    def _teacher_embedding(self, images: Tensor, numbers: Sequence[int] | None, names: Sequence[str] | None) -> Tensor:
        """What the student imitates.

        Args:
            images: (B, 3, S, S) in [0, 1].
            numbers: (B,) modality numbers; None: of SAM as it is, without controllers.
            names: of the images' pixels: where there are some, it is taken from the cache or put there.

        Returns:
            (B, 256, h, w) of the student's grid.
        """
        grid = self._grid(images)
        cache = self._embeddings.cache
        if cache is None or names is None:
            return self.teacher(images, grid, numbers)
        digest = self._base_digest(self.teacher.vit) if numbers is None else self._teacher_digest(self.teacher)
        setting = embedding_setting(f"{digest} {grid}", images, "teacher")
        whose = ["common"] * len(images) if numbers is None else [str(number) for number in numbers]

        def compute(rows: list[int]) -> Tensor:
            return self.teacher(images[rows], grid, None if numbers is None else [numbers[row] for row in rows])

        keys = [f"{setting} {k} {name}" for k, name in zip(whose, names, strict=True)]
        return cache.get_or_compute(keys, compute, images.device)

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """Height and width of the student's embedding."""
        cell = self.network.config.size_multiple // 2  # a patch of the SP-Generator is two cells wide
        return images.shape[-2] // cell, images.shape[-1] // cell

    def _start_from(self, path: str) -> None:
        try:
            kept = load_file(existing_file(path))
        except SafetensorError as error:
            raise WeightsError(f"{path} (`start_from`) is no whole safetensors file: {error}") from error
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in kept.items()}, path)
        self.load_state_dict(kept)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count_each(controllers: nn.ModuleDict) -> int:
    """Parameters of one of several equal modules; 0 without any."""
    return _count(controllers) // max(len(controllers), 1)


def _check_order(stages: Sequence[str], size: str, teacher_learns: bool, started: bool) -> None:
    """A teacher must know something before it teaches."""
    if teacher_learns and size in TEACHER_SIZES and (file := TEACHER_SIZES[size].file) is not None:
        raise ValueError(
            f"The teacher '{size}' needs its weights: download {PUBLISHED_AT}{file} and set `teacher_weights` to the path"
            " of the file. (Only the teacher 'tiny' learns from scratch.)"
        )
    for number, stage in enumerate(stages):
        needs_taught = stage == CONTROLLERS or (stage == COMMON and teacher_learns)
        if needs_taught and not started and TEACHER not in stages[:number]:
            raise ValueError(
                f"Stage '{stage}' needs a teacher that has learnt: put 'teacher' before it, or give `start_from`;"
                f" found the stages {', '.join(stages)}."
            )


def _leave_base_out(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object) -> None:
    for name in [name for name in state if name.startswith(prefix + _BASE)]:
        del state[name]


def _put_base_back(module: MDKDMethod, state: dict[str, Tensor], prefix: str, *others: object) -> None:
    state.update({f"{prefix}{_BASE}{name}": tensor for name, tensor in module.teacher.vit.state_dict().items()})
