"""One modality of a model as an ONNX file, for runtimes without PyTorch."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from delightsam.modeling.model import DeLightSAM
from delightsam.modeling.segmentation import modality_number
from delightsam.weights.weights_files import whole_file

OPSET = 20


class _OneModality(nn.Module):
    """Takes images as they are, normalises them, and knows its modality."""

    def __init__(self, model: DeLightSAM, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, images: Tensor) -> Tensor:
        return self.model.predict(images, self.number)


def _simplify(model: Any) -> None:
    """Has constants computed and what occurs twice kept once, in place, in an `onnx_ir.Model`.

    The exporter's own optimisation also looks for patterns, which takes two thirds of the export's time. ONNX Runtime, which looks
    for patterns itself, runs the file as fast without.
    """
    from onnx_ir.passes import Sequential, common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    fold_constants(model, onnx_shape_inference=True)
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    )(model)


def export_onnx(model: DeLightSAM, modality: str | int, path: str | Path) -> None:
    """Writes the function `images (B, 3, S, S) float32 RGB in [0, 1] -> logits (B, 1, S, S) float32` of one modality.

    S is the config's image size, B is free. Normalisation is inside; other modalities' parts are left out. Resize
    images to S x S (bilinear, antialiased) before, logits back to the image's size (bilinear) after, and cut at 0. The
    model stays as it was.

    Args:
        model: in eval mode; may be fused, but stays or becomes float32 in the file.
        modality: its name or number.
        path: the file to write, whole or not at all.

    Raises:
        ValueError: unknown modality, or a model that is in training mode or of another dtype than float32.
        ImportError: the extra `onnx` is not installed.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"ONNX export needs the package {package}: pip install 'delightsam-bench[onnx]'")
    number = modality_number(modality)
    if number not in model.config.modalities:
        raise ValueError(f"The model knows the modality numbers {model.config.modalities}; found {modality}.")
    if model.training:
        raise ValueError("Call model.eval() before the export: BatchNorm statistics become constants.")
    dtype = next(model.parameters()).dtype
    if dtype != torch.float32:
        raise ValueError(
            f"Expected a float32 model, found {dtype}. Load the weights again and leave out fuse(dtype=...)."
        )
    one = _OneModality(copy.deepcopy(model).cpu().fuse(), number)
    side = model.config.image_size
    # Two images: an exporter that sees one takes the batch for a constant.
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one(example)  # what a fused model keeps from its first pass on becomes constants of the file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own workings
        program = torch.onnx.export(
            one,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
            optimize=False,
        )
    assert program is not None
    _simplify(program.model)
    with whole_file(path) as temporary:
        program.save(str(temporary))
