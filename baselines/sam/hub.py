"""SAM, MedSAM, SlimSAM, SAM-HQ and SAM 2 as transformers has them (extra `sam`), from local weights.

Kirillov et al., "Segment Anything", ICCV 2023; Ma et al., "Segment anything in medical images", Nature Communications 15,
2024; Chen et al., "SlimSAM", NeurIPS 2024, arXiv 2312.05284; Ke et al., "Segment Anything in High Quality", NeurIPS 2023,
arXiv 2306.01567; Ravi et al., "SAM 2", arXiv 2408.00714.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.sam.preprocessing import Preprocessing

_LOADING = {"local_files_only": True, "output_loading_info": True, "dtype": torch.float32}
# family -> (scaling, whether the aspect is kept), as their authors feed them.
_FED = {"sam": ("sam", True), "sam_hq": ("sam", True), "medsam": ("minmax", False), "sam2": ("sam", False)}


class HubSam(nn.Module):
    """SAM with a ViT, also MedSAM and SlimSAM.

    Args:
        weights: a folder with `config.json` and the weights, or the name of a hub repository that lies in the local cache.
            Nothing is ever downloaded.
        family: "sam", "medsam", "sam_hq" or "sam2".

    Raises:
        ValueError: transformers is missing, or the weights are, or they are of another kind or don't fit.
    """

    class_name: ClassVar[str] = "SamModel"
    model_types: ClassVar[tuple[str, ...]] = ("sam",)
    # Names of the mask decoder's parts that a single mask does not depend on, or that no prompt changes.
    idle: ClassVar[tuple[str, ...]] = (
        "iou_prediction_head.",
        "output_hypernetworks_mlps.1.",
        "output_hypernetworks_mlps.2.",
        "output_hypernetworks_mlps.3.",
    )

    def __init__(self, weights: str, family: str) -> None:
        super().__init__()
        self.model = _load(self.class_name, self.model_types, weights)
        scaling, keeps_aspect = _FED[family]
        self.preprocessing = Preprocessing(scaling, keeps_aspect, self._side())

    def _side(self) -> int:
        return int(self.model.config.vision_config.image_size)

    @property
    def encoder(self) -> nn.Module:
        return self.model.vision_encoder

    def embed(self, pixels: Tensor) -> list[tuple[Tensor, ...]]:
        """(B, 3, side, side) normalised -> for each image what `masks` needs of it, each (1, ...)."""
        return [(image,) for image in self.model.vision_encoder(pixels).last_hidden_state.split(1)]

    def masks(self, embedding: tuple[Tensor, ...], prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) for boxes (N, 4) or points (N, 2) on one image."""
        given = {"input_boxes": prompts[None]} if prompts.shape[1] == 4 else {"input_points": prompts[None, :, None]}
        answer = self.model(**self._seen(embedding), **given, multimask_output=multimask)
        return answer.pred_masks[0], answer.iou_scores[0]

    def _seen(self, embedding: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"image_embeddings": embedding[0]}

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Of the mask decoder, those that a single mask depends on."""
        return [value for name, value in self.model.mask_decoder.named_parameters() if not name.startswith(self.idle)]


class HubSamHQ(HubSam):
    """SAM-HQ: its extra token also looks at the features of the encoder's first global block."""

    class_name = "SamHQModel"
    model_types = ("sam_hq",)

    def embed(self, pixels: Tensor) -> list[tuple[Tensor, ...]]:
        answer = self.model.vision_encoder(pixels)
        early = answer.intermediate_embeddings[0].split(1)
        return list(zip(answer.last_hidden_state.split(1), early, strict=True))

    def _seen(self, embedding: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"image_embeddings": embedding[0], "intermediate_embeddings": [embedding[1]]}


class HubSam2(HubSam):
    """SAM 2 and 2.1 on single images: three maps of a pyramid, no memory."""

    class_name = "Sam2Model"
    # Published files say "sam2_video": one file holds both models.
    model_types = ("sam2", "sam2_video")
    idle = (*HubSam.idle, "pred_obj_score_head.", "conv_s0.", "conv_s1.")

    def _side(self) -> int:
        return int(self.model.config.prompt_encoder_config.image_size)

    def embed(self, pixels: Tensor) -> list[tuple[Tensor, ...]]:
        maps = list(self.model.get_image_features(pixels).fpn_hidden_states)  # each (h w, B, C)
        maps[-1] = maps[-1] + self.model.no_memory_embedding
        sizes = self.model.backbone_feature_sizes
        maps = [one.permute(1, 2, 0).unflatten(2, tuple(size)) for one, size in zip(maps, sizes, strict=True)]
        return list(zip(*(one.split(1) for one in maps), strict=True))

    def _seen(self, embedding: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"image_embeddings": list(embedding)}


def _load(class_name: str, model_types: tuple[str, ...], weights: str) -> nn.Module:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError("SAM of this kind needs transformers, which is not installed: pip install '.[sam]'")
    folder = _local_folder(weights)
    import transformers  # takes seconds: only once there is something to load

    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise ValueError(f"transformers {transformers.__version__} has no {class_name}: pip install '.[sam]'")
    try:
        found = transformers.PreTrainedConfig.get_config_dict(folder, local_files_only=True)[0].get("model_type")
        fits = found in model_types
        with _quiet(transformers.logging):
            loaded = model_class.from_pretrained(folder, **_LOADING) if fits else None
    except Exception as error:  # each library that reads a part of it raises errors of its own
        raise ValueError(f"{weights} can't be read as weights of {class_name}: {str(error).strip()}") from error
    if loaded is None:
        raise ValueError(f"{weights}: its config.json says model_type '{found}', expected {' or '.join(model_types)}.")
    model, report = loaded
    faults = [
        f"{len(report[kind])} {kind.removesuffix('_keys')}, first {sorted(map(str, report[kind]))[0]}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report.get(kind)
    ]
    if faults:
        raise ValueError(f"{weights} does not fit {class_name}, nothing runs: {'; '.join(faults)}.")
    return model.eval()


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Without progress bars and remarks: what matters of them becomes an error here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _local_folder(weights: str) -> str:
    """The folder of the weights: the one named, or the local copy of a hub repository. Looks nowhere else, so it is quick."""
    path = Path(weights).expanduser()
    if (path / "config.json").is_file():
        return str(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        kept = snapshot_download(weights, local_files_only=True)
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        where = (
            "a folder without config.json" if path.is_dir() else "neither a folder nor in the local Hugging Face cache"
        )
        raise ValueError(
            f"Expected weights at '{weights}'; found {where}. With network access, run `hf download {weights}` once; or copy"
            " the repository's config.json and model.safetensors into a folder and give it:"
            " methods.<name>.model.weights=/path/to/folder."
        ) from error
    if not (Path(kept) / "config.json").is_file():
        raise ValueError(f"The local copy of '{weights}' ({kept}) is not complete: run `hf download {weights}` again.")
    return kept
