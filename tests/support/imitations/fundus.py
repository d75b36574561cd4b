"""Vessels of the retina: DRIVE, STARE, CHASE_DB1, HRF."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.imitations.download import Download, imitation
from tests.support.imitations.encode import gif, grey, jpeg, png, png_1_bit, ppm, ppm_gz, tif


def _drive(d: Download, archive: str, part: str, number: str, *, root: str = "DRIVE") -> None:
    image, mask = tif(d.picture()), d.mask()
    d.put(archive, f"{root}/{part}/images/{number}_{part}.tif", image)
    d.put(archive, f"{root}/{part}/1st_manual/{number}_manual1.gif", gif(mask))
    d.junk(archive, f"{root}/{part}/mask/{number}_{part}_mask.gif")
    split = "train" if part == "training" else "test"
    d.expect("fundus", f"{number}_{part}", image, mask, subject=number, split=split)


@imitation("drive", "an older copy, with masks of the test images", 0, 1)
def _(d: Download) -> None:
    for number in ("21", "40"):
        _drive(d, "DRIVE.zip", "training", number)
    for number in ("01", "20"):
        _drive(d, "DRIVE.zip", "test", number)
        d.junk("DRIVE.zip", f"DRIVE/test/2nd_manual/{number}_manual2.gif")


@imitation("drive", "today's two archives, without masks of the test images", 0)
def _(d: Download) -> None:
    for number in ("21", "22"):
        _drive(d, "training.zip", "training", number, root=".")
    d.put("test.zip", "test/images/01_test.tif", tif(d.picture()))
    d.junk("test.zip", "test/mask/01_test_mask.gif")


def _stare(
    d: Download, images: str, masks: str, ending: str, write: Callable[[np.ndarray], bytes], *, kept: bool
) -> None:
    for id in ("im0001", "im0044", "im0324"):
        values, mask = d.picture(), d.mask()
        image = write(values)
        d.put(images, f"{id}{ending}", image)
        d.put(masks, f"{id}.ah{ending}", write(grey(mask)))
        d.put(masks.replace("ah", "vk"), f"{id}.vk{ending}", write(grey(d.mask())))
        d.expect("fundus", id, image if kept else values, mask)


@imitation("stare", "the three tars", 0)
def _(d: Download) -> None:
    _stare(d, "stare-images.tar", "labels-ah.tar", ".ppm.gz", ppm_gz, kept=False)


@imitation("stare", "the tars, unpacked", 1)
def _(d: Download) -> None:
    _stare(d, "stare-images", "labels-ah", ".ppm", ppm, kept=False)


@imitation("stare", "a copy as PNG", 2)
def _(d: Download) -> None:
    _stare(d, "stare-png", "labels-ah-png", ".png", png, kept=True)


def _chase(d: Download, archive: str, images: str, masks: str) -> None:
    for id, child in (("Image_01L", "01"), ("Image_01R", "01"), ("Image_14R", "14")):
        image, mask = jpeg(d.picture()), d.mask()
        d.put(archive, f"{images}{id}.jpg", image)
        d.put(archive, f"{masks}{id}_1stHO.png", png_1_bit(mask))
        d.put(archive, f"{masks}{id}_2ndHO.png", png_1_bit(d.mask()))
        d.expect("fundus", id, image, mask, subject=child)


@imitation("chase_db1", "all files in one folder", 0)
def _(d: Download) -> None:
    _chase(d, "CHASEDB1.zip", "", "")


@imitation("chase_db1", "a copy on Kaggle", 0)
def _(d: Download) -> None:
    _chase(d, "archive.zip", "Images/", "Masks/")


@imitation("hrf", "all.zip", 0)
def _(d: Download) -> None:
    for id, ending in (("01_dr", "JPG"), ("01_g", "jpg"), ("01_h", "jpg"), ("15_dr", "JPG")):
        image, mask = jpeg(d.picture()), d.mask()
        d.put("all.zip", f"images/{id}.{ending}", image)
        d.put("all.zip", f"manual1/{id}.tif", tif(grey(mask)))
        d.junk("all.zip", f"mask/{id}_mask.tif")
        d.expect("fundus", id, image, mask, subject=id)
