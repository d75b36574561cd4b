"""Chest radiographs: Shenzhen, Montgomery, JSRT, NIH, COVID-QU-Ex."""

from __future__ import annotations

import numpy as np

from tests.support.imitations.download import Download, imitation
from tests.support.imitations.encode import gif, grey, in_colour, jsrt_img, png, soft, table

KAGGLE_MIX = "archive.zip"


def _kaggle_mix(d: Download, dataset: str) -> None:
    """Shenzhen and Montgomery in the same folders; the pairs of one of them are expected."""
    for id, mask_name, owner in (
        ("CHNCXR_0001_0", "CHNCXR_0001_0_mask", "shenzhen"),
        ("CHNCXR_0327_1", "CHNCXR_0327_1_mask", "shenzhen"),
        ("MCUCXR_0001_0", "MCUCXR_0001_0", "montgomery"),
        ("MCUCXR_0393_1", "MCUCXR_0393_1", "montgomery"),
    ):
        image, mask = png(d.picture()), d.mask()
        d.put(KAGGLE_MIX, f"data/Lung Segmentation/CXR_png/{id}.png", image)
        d.put(KAGGLE_MIX, f"data/Lung Segmentation/masks/{mask_name}.png", png(soft(mask)))
        d.junk(KAGGLE_MIX, f"data/Lung Segmentation/ClinicalReadings/{id}.txt")
        if owner == dataset:
            d.expect("xray", id, image, mask, subject=id)
    d.junk(KAGGLE_MIX, "data/Lung Segmentation/CXR_png/CHNCXR_0025_0.png")
    if dataset == "shenzhen":
        d.skipped.add("data/Lung Segmentation/CXR_png/CHNCXR_0025_0.png")
    d.junk(
        KAGGLE_MIX,
        "data/Lung Segmentation/test/CHNCXR_0040_0.png",
        "data/Lung Segmentation/NLM-ChinaCXRSet-ReadMe.docx",
    )


@imitation("shenzhen", "the mix on Kaggle", 0)
def _(d: Download) -> None:
    _kaggle_mix(d, "shenzhen")


@imitation("montgomery", "the mix on Kaggle", 1)
def _(d: Download) -> None:
    _kaggle_mix(d, "montgomery")


@imitation("shenzhen", "the set of NLM and the masks of Kaggle", 1)
def _(d: Download) -> None:
    for id in ("CHNCXR_0001_0", "CHNCXR_0662_1"):
        image, mask = png(d.picture()), d.mask()
        d.put("ChinaSet_AllFiles.zip", f"ChinaSet_AllFiles/CXR_png/{id}.png", image)
        d.junk("ChinaSet_AllFiles.zip", f"ChinaSet_AllFiles/ClinicalReadings/{id}.txt")
        d.put("shcxr-lung-mask.zip", f"mask/mask/{id}_mask.png", png(soft(mask)))
        d.expect("xray", id, image, mask, subject=id)
    d.junk(
        "ChinaSet_AllFiles.zip", "ChinaSet_AllFiles/CXR_png/Thumbs.db", "ChinaSet_AllFiles/CXR_png/CHNCXR_0025_0.png"
    )
    d.skipped.add("ChinaSet_AllFiles/CXR_png/CHNCXR_0025_0.png")


@imitation("montgomery", "MontgomerySet", 0)
def _(d: Download) -> None:
    for id in ("MCUCXR_0001_0", "MCUCXR_0104_1", "MCUCXR_0393_1"):
        image, left, right = png(d.picture()), d.mask(), d.mask()
        d.put("NLM-MontgomeryCXRSet.zip", f"MontgomerySet/CXR_png/{id}.png", image)
        d.put("NLM-MontgomeryCXRSet.zip", f"MontgomerySet/ManualMask/leftMask/{id}.png", png(left))
        d.put("NLM-MontgomeryCXRSet.zip", f"MontgomerySet/ManualMask/rightMask/{id}.png", png(right))
        d.junk("NLM-MontgomeryCXRSet.zip", f"MontgomerySet/ClinicalReadings/{id}.txt")
        d.expect("xray", id, image, left | right, subject=id)
    d.junk(
        "NLM-MontgomeryCXRSet.zip", "MontgomerySet/NLM-MontgomeryCXRSet-ReadMe.pdf", "__MACOSX/MontgomerySet/._CXR_png"
    )


def _scr_masks(d: Download, archive: str, folder: str, id: str, side: int) -> np.ndarray:
    left, right = d.mask(side, side), d.mask(side, side)
    d.put(archive, f"{folder}/masks/left lung/{id}.gif", gif(left))
    d.put(archive, f"{folder}/masks/right lung/{id}.gif", gif(right))
    for organ in ("heart", "left clavicle", "right clavicle"):
        d.put(archive, f"{folder}/masks/{organ}/{id}.gif", gif(d.mask(side, side)))
    d.junk(archive, f"{folder}/landmarks/{id}.pfs")
    return left | right


@imitation("jsrt", "the .IMG files of JSRT and the archive of SCR", 0)
def _(d: Download) -> None:
    for id, fold in (("JPCLN001", "fold1"), ("JPCNN064", "fold2")):
        # Blocks of 2 x 2, whose mean is exact.
        small = d._random().integers(0, 4096, (1024, 1024), dtype=np.uint16)
        d.put("All247images.zip", f"All247images/{id}.IMG", jsrt_img(np.repeat(np.repeat(small, 2, 0), 2, 1)))
        mask = _scr_masks(d, "scr.tar.gz", f"scratch/{fold}", id, 1024)
        d.expect("xray", id, 4095 - small, mask, subject=id, white_level="4095")
    d.junk("scr.tar.gz", "scratch/points/readme.txt")


@imitation("jsrt", "a copy as PNG", 1)
def _(d: Download) -> None:
    for id, fold in (("JPCLN049", "fold1"), ("JPCNN002", "fold2")):
        small = d.picture(32, 32)[..., 0]
        d.put("JSRT", f"images/{id}.png", png(np.repeat(np.repeat(small, 2, 0), 2, 1)))
        mask = _scr_masks(d, "JSRT", f"scratch/{fold}", id, 32)
        d.expect("xray", id, in_colour(small), mask, subject=id)


@imitation("nih", "the images of NIH and the masks of CXR8-Annotations", 0)
def _(d: Download) -> None:
    for id, patient, folder in (
        ("00000001_000", "00000001", "images_001"),
        ("00000001_001", "00000001", "images_001"),
        ("00030621_006", "00030621", "images_012"),
    ):
        image, mask = png(d.picture()[..., 0]), d.mask()
        d.put("CXR8", f"{folder}/images/{id}.png", image)
        d.put("CXR8", f"segmentations/{id}.png", png(grey(mask)))
        d.expect("xray", id, image, mask, subject=patient)
    d.put("CXR8", "images_001/images/00000002_000.png", png(d.picture()))
    d.skipped.add("images_001/images/00000002_000.png")
    d.put("CXR8", "Data_Entry_2017.csv", table([("Image Index", "Patient ID"), ("00000001_000.png", 1)]))


@imitation("nih", "the annotated images of XLSor", 1)
def _(d: Download) -> None:
    for id, patient in (("00000013_023", "00000013"), ("00000096_001", "00000096")):
        image, mask = png(d.picture()), d.mask()
        d.put("data.zip", f"data/NIH/{id}.png", image)
        d.put("data.zip", f"data/NIH/{id}_mask.png", png(soft(mask)))
        d.expect("xray", id, image, mask, subject=patient)
    d.junk("data.zip", "data/Augmentation/00001_mask.png", "data/train_list.txt")


@imitation("covid_qu_ex", "the archive of Kaggle", 0, 1, 2)
def _(d: Download) -> None:
    lungs, infection = (
        "Lung Segmentation Data/Lung Segmentation Data",
        "Infection Segmentation Data/Infection Segmentation Data",
    )
    for part, kind, name, split, id in (
        ("Train", "COVID-19", "covid_1", "train", "COVID-19_covid_1"),
        ("Train", "Normal", "Normal (1)", "train", "Normal_Normal_1"),
        ("Val", "Non-COVID", "non_COVID (7)", "validation", "Non-COVID_non_COVID_7"),
        ("Test", "Normal", "Normal (12)", "test", "Normal_Normal_12"),
    ):
        image, mask = png(d.picture()[..., 0]), d.mask()
        d.put("archive.zip", f"{lungs}/{part}/{kind}/images/{name}.png", image)
        d.put("archive.zip", f"{lungs}/{part}/{kind}/lung masks/{name}.png", png(soft(mask)))
        d.expect("xray", id, image, mask, split=split)
        for folder in ("images", "lung masks", "infection masks"):
            d.junk("archive.zip", f"{infection}/{part}/{kind}/{folder}/{name}.png")
    d.junk("archive.zip", "COVID-QU-Ex dataset.txt")
