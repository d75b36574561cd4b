"""Nuclei: Data Science Bowl, MoNuSeg, TNBC, CryoNuSeg, NuInsSeg."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np

from tests.support.imitations.download import HEIGHT, WIDTH, Download, imitation
from tests.support.imitations.encode import Box, aperio_xml, filled, grey, label_tif, png, table, tif


def _name(text: str) -> str:
    """64 digits, as the files of the Data Science Bowl are named."""
    return hashlib.sha256(text.encode()).hexdigest()


def _rgba(d: Download, alpha: int) -> bytes:
    return png(np.dstack([d.picture(), np.full((HEIGHT, WIDTH), alpha, np.uint8)]))


def _bowl(d: Download, archive: str, root: str) -> None:
    for number in range(3):
        id, image = _name(f"image {number}"), _rgba(d, 255)
        d.put(archive, f"{root}{id}/images/{id}.png", image)
        nuclei = [d.mask() for _ in range(1 + number)]
        for count, nucleus in enumerate(nuclei):
            d.put(archive, f"{root}{id}/masks/{_name(f'nucleus {number} {count}')}.png", png(grey(nucleus)))
        d.expect("microscopy", id, image, np.any(nuclei, axis=0))


@imitation("dsb2018", "stage1_train.zip, whose folders are those of the images", 0)
def _(d: Download) -> None:
    _bowl(d, "stage1_train.zip", "")
    d.put("stage1_train_labels.csv", "", table([("ImageId", "EncodedPixels")]))


@imitation("dsb2018", "the repository of corrected masks", 0)
def _(d: Download) -> None:
    _bowl(d, "kaggle-dsbowl-2018-dataset-fixes-master.zip", "kaggle-dsbowl-2018-dataset-fixes-master/stage1_train/")
    d.junk("kaggle-dsbowl-2018-dataset-fixes-master.zip", "kaggle-dsbowl-2018-dataset-fixes-master/README.md")


@imitation("dsb2018", "the archive of Kaggle, with archives in it", 0)
def _(d: Download) -> None:
    inner = Download(seed=d.seed)
    _bowl(inner, "stage1_train.zip", "")
    test, id = "stage1_test.zip", _name("a test image")
    inner.put(test, f"{id}/images/{id}.png", _rgba(inner, 255))
    for name, files in inner.archives.items():
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        d.put("data-science-bowl-2018.zip", name, stream.getvalue())
    d.expected = inner.expected


@imitation("monuseg", "the archives of the challenge", 0, 1)
def _(d: Download) -> None:
    train, test = "MoNuSeg 2018 Training Data", "MoNuSegTestData"
    sets: tuple[tuple[str, str, str, list[Box]], ...] = (
        ("TCGA-18-5592-01Z-00-DX1", "TCGA-18-5592", "train", [(1, 1, 6, 6), (5, 3, 12, 9)]),
        ("TCGA-A7-A13E-01Z-00-DX1", "TCGA-A7-A13E", "train", [(20, 2, 31, 23)]),
        ("TCGA-2Z-A9J9-01A-01-TS1", "TCGA-2Z-A9J9", "test", [(0, 0, 3, 3), (8, 8, 10, 20), (15, 15, 16, 17)]),
    )
    for id, patient, split, boxes in sets:
        image = tif(d.picture())
        if split == "train":
            d.put(f"{train}.zip", f"{train}/Tissue Images/{id}.tif", image)
            d.put(f"{train}.zip", f"{train}/Annotations/{id}.xml", aperio_xml(boxes))
            d.junk(f"{train}.zip", f"__MACOSX/{train}/Annotations/._{id}.xml")
        else:
            d.put(f"{test}.zip", f"{test}/{id}.tif", image)
            d.put(f"{test}.zip", f"{test}/{id}.xml", aperio_xml(boxes))
        d.expect("microscopy", id, image, filled(boxes, HEIGHT, WIDTH), subject=patient, split=split)


@imitation("tnbc", "the archive of Zenodo", 0)
def _(d: Download) -> None:
    archive, root = "TNBC_NucleiSegmentation.zip", "TNBC_NucleiSegmentation"
    for slide, id in (("01", "01_1"), ("01", "01_2"), ("11", "11_3")):
        image, mask = _rgba(d, 0), d.mask()
        d.put(archive, f"{root}/Slide_{slide}/{id}.png", image)
        d.put(archive, f"{root}/GT_{slide}/{id}.png", png(grey(mask)))
        d.junk(archive, f"__MACOSX/{root}/GT_{slide}/._{id}.png")
        d.expect("microscopy", id, image, mask, subject=slide)


@imitation("cryonuseg", "the archive of Kaggle", 0)
def _(d: Download) -> None:
    second, other = "Annotator 1 (biologist second round of manual marks up)", "Annotator 2 (bioinformatician)"
    for id in ("Human_AdrenalGland_01", "Human_AdrenalGland_02", "Human_Skin_03"):
        image, mask = tif(d.picture()), d.mask()
        d.put("archive.zip", f"tissue images/{id}.tif", image)
        d.put("archive.zip", f"Annotator 1 (biologist)/label masks modify/{id}.tif", label_tif(mask))
        for reader in (f"{second}/{second}", f"{other}/{other}"):
            d.put("archive.zip", f"{reader}/label masks modify/{id}.tif", label_tif(d.mask()))
        for folder, ending in (("label masks", "tif"), ("mask binary", "png"), ("distance maps", "png")):
            d.junk("archive.zip", f"Annotator 1 (biologist)/{folder}/{id}.{ending}")
        d.junk("archive.zip", f"Annotator 1 (biologist)/Imagj_zips/{id}.zip.txt")
        d.expect("microscopy", id, image, mask, subject=id)


@imitation("nuinsseg", "the archive of Kaggle", 0)
def _(d: Download) -> None:
    for organ, id in (
        ("human bladder", "human_bladder_01"),
        ("human bladder", "human_bladder_02"),
        ("human brain", "human_brain_9"),
        ("mouse fat (white and brown)_subscapula", "mouse_fat_1"),
    ):
        image, mask = png(d.picture()), d.mask()
        d.put("archive.zip", f"{organ}/tissue images/{id}.png", image)
        d.put("archive.zip", f"{organ}/label masks modify/{id}.tif", label_tif(mask))
        for folder, ending in (
            ("label masks", "tif"), ("mask binary", "png"), ("mask binary without border", "png"),
            ("distance maps", "png"), ("overlay", "png"), ("vague areas/mask binary", "png"), ("stacked mask", "mat"),
        ):  # fmt: skip
            d.junk("archive.zip", f"{organ}/{folder}/{id}.{ending}")
        d.expect("microscopy", id, image, mask, subject=organ)
