"""nnU-Net itself, in a process of its own: `python -m baselines.external.nnunet train|predict`.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18,
2021. The package `nnunetv2` makes the fingerprint, the plan, the preprocessing, the network, its training and the prediction;
this file translates the folder (docs/guides/external_trainer.md) and sets the budget:

- one 2D model of all modalities of the split, RGB as three channels; training and validation images are its fold 0;
- an epoch is as many steps as it takes to draw each training image once, with the batch size of nnU-Net's own plan, so
  that `training.epochs` is the same budget as that of other methods (`--iterations N` sets another number);
- the tested weights are the last ones, as nnU-Net does it, or with `training.selection=training_domain_validation` those of
  the best moving average of its Dice on validation patches.

Goes on at its last checkpoint when it was stopped; the images drawn after that are others than without the stop.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DATASET = 1
NAME = "Dataset001_bench"
CONFIGURATION = "2d"
# Environment variables that give nnU-Net its folders.
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
# Checkpoints in a long training; a short one has one after each epoch.
_CHECKPOINTS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "predict"))
    parser.add_argument("--iterations", type=int, help="steps of an epoch; default: each image is drawn once")
    words = parser.parse_args()
    work = Path(os.environ["BENCH_WORK"])
    task = json.loads((work / "task.json").read_text("utf-8"))
    _set_environment(work, task)
    if words.stage == "train":
        train(work, task, words.iterations, resume=os.environ["BENCH_RESUME"] == "1")
    else:
        predict(work, task)


def train(work: Path, task: dict[str, Any], iterations: int | None, *, resume: bool) -> None:
    """Plans, preprocesses and trains; what an earlier attempt has finished of it is not done again."""
    if not task["images"]["validation"]:
        raise SystemExit("nnU-Net needs validation images, and this split has none.")
    prepared = work / "scratch" / "prepared"
    if not prepared.exists():
        for name in (RAW, PREPROCESSED):
            shutil.rmtree(os.environ[name], ignore_errors=True)
        write_raw(work, task, Path(os.environ[RAW]) / NAME)
        _plan_and_preprocess(task["cpu_threads"])
        prepared.touch()
    splits = [{"train": _cases(task, "train"), "val": _cases(task, "validation")}]
    base = Path(os.environ[PREPROCESSED]) / NAME
    (base / "splits_final.json").write_text(json.dumps(splits, indent=2))
    trainer = _trainer(base, task, iterations, resume)
    trainer.run_training()
    # Kept with the model: the split as nnU-Net read it.
    used = dict(zip(("train", "val"), trainer.do_split(), strict=True))
    (work / "model" / "split_used.json").write_text(json.dumps({key: list(map(str, used[key])) for key in used}))
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    summary = {"epochs": trainer.num_epochs, "images_seen": steps * trainer.batch_size}
    (work / "model" / "summary.json").write_text(json.dumps(summary))


def predict(work: Path, task: dict[str, Any]) -> None:
    """Masks of the validation and test images: with nnU-Net's own tiles, Gaussian weights and mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device(task["device"]), allow_tqdm=False)
    last = task["settings"].get("selection", "last") == "last"
    predictor.initialize_from_trained_model_folder(
        str(_results()), use_folds=(0,), checkpoint_name="checkpoint_final.pth" if last else "checkpoint_best.pth"
    )
    raw = work / "scratch" / "predicted"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    found = [(role, image["name"]) for role in ("validation", "test") for image in task["images"][role]]
    sources = [[str(work / role / "images" / name)] for role, name in found]
    targets = [str(raw / Path(name).with_suffix("")) for _, name in found]
    predictor.predict_from_files_sequential(sources, targets)
    for _, name in found:
        mask = np.asarray(Image.open(raw / name)) != 0
        Image.fromarray(mask.astype(np.uint8) * 255).save(work / "predictions" / name)


def write_raw(work: Path, task: dict[str, Any], folder: Path) -> None:
    """The data set as nnU-Net reads it: training and validation images with labels 0 and 1. Test images are not in it."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for role in ("train", "validation"):
        for image in task["images"][role]:
            name = image["name"]
            shutil.copyfile(work / role / "images" / name, folder / "imagesTr" / name.replace(".png", "_0000.png"))
            mask = np.asarray(Image.open(work / role / "masks" / name)) != 0
            Image.fromarray(mask.astype(np.uint8)).save(folder / "labelsTr" / name)
    about = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "object": 1},
        "numTraining": len(task["images"]["train"]) + len(task["images"]["validation"]),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=2))


def _set_environment(work: Path, task: dict[str, Any]) -> None:
    """Before nnunetv2 is imported, which reads these."""
    for name, place in ((RAW, "scratch"), (PREPROCESSED, "scratch"), (RESULTS, "model")):
        (work / place / name).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(work / place / name)
    threads = int(task["cpu_threads"])
    os.environ |= {"nnUNet_n_proc_DA": str(threads), "nnUNet_def_n_proc": str(threads)}
    os.environ |= {"nnUNet_compile": "false"} | os.environ


def _plan_and_preprocess(processes: int) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([DATASET], num_processes=processes, check_dataset_integrity=True, show_progress_bar=False)
    plans = api.plan_experiments([DATASET])
    api.preprocess([DATASET], plans, (CONFIGURATION,), num_processes=(processes,), show_progress_bar=False)


def _trainer(base: Path, task: dict[str, Any], iterations: int | None, resume: bool) -> Any:
    """nnU-Net's own trainer, at its last checkpoint, with our budget in place of its 1000 epochs of 250 steps."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    device, seed = torch.device(task["device"]), int(task["seed"])
    torch.set_num_threads(task["cpu_threads"])
    _seed(seed)
    # Beside the process that trains; its planner, before, takes none for a mistake.
    os.environ |= {"nnUNet_n_proc_DA": str(task["cpu_threads"] - 1)}
    begun = resume and any(_results().glob("fold_0/checkpoint_*.pth"))
    trainer = get_trainer_from_args(str(DATASET), CONFIGURATION, 0, continue_training=begun, device=device)
    trainer.num_epochs = int(task["settings"]["epochs"])
    images = len(task["images"]["train"])
    batch = trainer.configuration_manager.batch_size
    trainer.num_iterations_per_epoch = iterations or math.ceil(images / batch)
    trainer.num_val_iterations_per_epoch = max(1, math.ceil(len(task["images"]["validation"]) / batch))
    trainer.save_every = max(1, trainer.num_epochs // _CHECKPOINTS)
    trainer.save_checkpoint = _whole(trainer.save_checkpoint)
    if begun:
        maybe_load_checkpoint(trainer, True, False)
        _seed(seed + 1_000_003 * trainer.current_epoch)  # not the first epochs' images again
    return trainer


def _whole(save: Callable[[str], None]) -> Callable[[str], None]:
    """A checkpoint is whole or not there, whenever the process dies."""

    def saved(path: str) -> None:
        save(f"{path}.part")
        Path(f"{path}.part").replace(path)

    return saved


def _seed(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def _results() -> Path:
    return Path(os.environ[RESULTS]) / NAME / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"


def _cases(task: dict[str, Any], role: str) -> list[str]:
    return [image["name"].removesuffix(".png") for image in task["images"][role]]


if __name__ == "__main__":
    main()
