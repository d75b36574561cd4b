"""Optic disc and cup: Drishti-GS1, RIM-ONE r3 and DL, REFUGE."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.support.imitations.download import HEIGHT, WIDTH, Download, imitation
from tests.support.imitations.encode import bmp, jpeg, png, soft


def _soft_map(d: Download) -> tuple[bytes, np.ndarray]:
    """The mean of four readers, and what at least three of them marked."""
    readers = [d.mask() for _ in range(4)]
    votes = np.sum(readers, axis=0)
    return png((votes * 255 / 4).astype(np.uint8)), votes >= 3


def _drishti(d: Download, archive: str, root: str, split: str, id: str, kind: str = "") -> None:
    part, truth = ("Training", "GT") if split == "train" else ("Test", "Test_GT")
    image = png(d.picture())
    d.put(archive, f"{root}{part}/Images/{kind}{id}.png", image)
    for name, modality in (("ODsegSoftmap", "fundus_disc"), ("cupsegSoftmap", "fundus_cup")):
        content, mask = _soft_map(d)
        d.put(archive, f"{root}{part}/{truth}/{id}/SoftMap/{id}_{name}.png", content)
        d.expect(modality, id, image, mask, split=split)
    d.junk(archive, f"{root}{part}/{truth}/{id}/{id}_cdrValues.txt")
    d.junk(archive, f"{root}{part}/{truth}/{id}/AvgBoundary/{id}_ODAvgBoundary.txt")


@imitation("drishti_gs", "the folder Drishti-GS1_files", 0, 1, 2, 3)
def _(d: Download) -> None:
    for id, split in (("drishtiGS_002", "train"), ("drishtiGS_004", "train"), ("drishtiGS_001", "test")):
        _drishti(d, "Drishti-GS1.zip", "Drishti-GS1_files/Drishti-GS1_files/", split, id)


@imitation("drishti_gs", "the folders of Google Drive", 0, 1, 2, 3)
def _(d: Download) -> None:
    _drishti(d, "Training-20211018T055246Z-001.zip", "", "train", "drishtiGS_002", "GLAUCOMA/")
    _drishti(d, "Training-20211018T055246Z-001.zip", "", "train", "drishtiGS_046", "NORMAL/")
    _drishti(d, "Test-20211018T060000Z-001.zip", "", "test", "drishtiGS_001")


@imitation("rim_one", "release 3", 0, 1)
def _(d: Download) -> None:
    for folder, id in (
        ("Healthy", "N-10-R"),
        ("Glaucoma and suspects", "G-10-L"),
        ("Glaucoma and suspects", "S-10-R"),
    ):
        stereo = jpeg(d.picture(HEIGHT, 2 * WIDTH))
        left = np.asarray(Image.open(io.BytesIO(stereo)).convert("RGB"))[:, :WIDTH]
        d.put("RIM-ONE r3.zip", f"RIM-ONE r3/{folder}/Stereo Images/{id}.jpg", stereo)
        for part, modality in (("Disc", "fundus_disc"), ("Cup", "fundus_cup")):
            mask = d.mask()
            d.put("RIM-ONE r3.zip", f"RIM-ONE r3/{folder}/Average_masks/{id}-{part}-Avg.png", png(soft(mask)))
            d.junk("RIM-ONE r3.zip", f"RIM-ONE r3/{folder}/Average_masks/{id}-{part}-Avg.txt")
            for number in (1, 2):
                expert = f"RIM-ONE r3/{folder}/Expert{number}_masks/{id}-{part}-exp{number}"
                d.junk("RIM-ONE r3.zip", f"{expert}.png", f"{expert}.txt")
            d.expect(modality, id, left, mask)


@imitation("rim_one_dl", "images and segmentations", 0, 1, 2, 3)
def _(d: Download) -> None:
    for kind, id, part, split in (
        ("normal", "r1_Im069", "training_set", "train"),
        ("glaucoma", "r3_G-10-L", "training_set", "train"),
        ("glaucoma", "r2_Im341", "test_set", "test"),
    ):
        image = png(d.picture())
        images = "RIM-ONE_DL_images"
        d.put(f"{images}.zip", f"{images}/partitioned_by_hospital/{part}/{kind}/{id}.png", image)
        d.put(f"{images}.zip", f"{images}/partitioned_randomly/training_set/{kind}/{id}.png", image)
        masks = "RIM-ONE_DL_reference_segmentations"
        for name, modality in (("Disc", "fundus_disc"), ("Cup", "fundus_cup")):
            mask = d.mask()
            d.put(f"{masks}.zip", f"{masks}/{kind}/{id}-1-{name}-T.png", png(soft(mask)))
            d.junk(f"{masks}.zip", f"{masks}/{kind}/{id}-1-{name}-T.txt")
            d.expect(modality, id, image, mask, split=split)


def _refuge_mask(d: Download) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Cup 0, rim 128, background 255; the disc and the cup."""
    disc = d.mask()
    cup = disc & d.mask()
    return bmp(np.where(cup, 0, np.where(disc, 128, 255)).astype(np.uint8)), disc, cup


def _refuge(d: Download, archive: str, image_path: str, mask_archive: str, mask_path: str, split: str) -> None:
    image = jpeg(d.picture())
    content, disc, cup = _refuge_mask(d)
    d.put(archive, image_path, image)
    d.put(mask_archive, mask_path, content)
    id = image_path.rpartition("/")[2].removesuffix(".jpg")
    d.expect("fundus_disc", id, image, disc, split=split)
    d.expect("fundus_cup", id, image, cup, split=split)


@imitation("refuge", "the archives of the challenge", *range(6))
def _(d: Download) -> None:
    train, train_masks = "REFUGE-Training400.zip", "Annotation-Training400.zip"
    masks = "Annotation-Training400/Disc_Cup_Masks"
    _refuge(d, train, "Training400/Glaucoma/g0001.jpg", train_masks, f"{masks}/Glaucoma/g0001.bmp", "train")
    _refuge(d, train, "Training400/Non-Glaucoma/n0001.jpg", train_masks, f"{masks}/Non-Glaucoma/n0001.bmp", "train")
    d.junk(train_masks, "Annotation-Training400/Fovea_location.xlsx", f"__MACOSX/{masks}/Glaucoma/._g0001.bmp")
    validation = "REFUGE-Validation400-GT.zip"
    _refuge(
        d, "REFUGE-Validation400.zip", "REFUGE-Validation400/V0001.jpg",
        validation, "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp", "validation",
    )  # fmt: skip
    for id, kind in (("T0001", "G"), ("T0002", "N")):
        _refuge(
            d, "REFUGE-Test400.zip", f"Test400/{id}.jpg",
            "REFUGE-Test-GT.zip", f"REFUGE-Test-GT/Disc_Cup_Masks/{kind}/{id}.bmp", "test",
        )  # fmt: skip


@imitation("refuge", "repacked for REFUGE2", *range(6))
def _(d: Download) -> None:
    archive, root = "REFUGE2.zip", "REFUGE2"
    masks = f"{root}/REFUGE1-Train-400/Annotation-Training400/Disc_Cup_Masks"
    for kind, id in (("Glaucoma", "g0002"), ("Non-Glaucoma", "n0360")):
        _refuge(d, archive, f"{root}/REFUGE1-Train-400/Images/{id}.jpg", archive, f"{masks}/{kind}/{id}.bmp", "train")
    validation = f"{root}/REFUGE1-Val-400"
    _refuge(
        d, archive, f"{validation}/REFUGE-Validation400/V0400.jpg",
        archive, f"{validation}/REFUGE-Validation400-GT/Disc_Cup_Masks/V0400.bmp", "validation",
    )  # fmt: skip
    test = f"{root}/REFUGE1-Test-400"
    _refuge(d, archive, f"{test}/Images/T0400.jpg", archive, f"{test}/Annotation/Disc_Cup_Masks/T0400.bmp", "test")
    d.junk(archive, f"{root}/Training400/AMD/A0011.jpg", f"__MACOSX/{test}/Images/._T0400.jpg")
