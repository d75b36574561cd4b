"""Breast and thyroid: BUSI, UDIAT, BUS-BRA, DDTI, TN3K, STU-Hospital."""

from __future__ import annotations

import numpy as np

from tests.support.imitations.download import HEIGHT, WIDTH, Download, imitation
from tests.support.imitations.encode import ddti_xml, filled, grey, jpeg, jpeg_mask, png, png_1_bit, soft, table


@imitation("busi", "Dataset_BUSI_with_GT", 0)
def _(d: Download) -> None:
    archive, root = "archive.zip", "Dataset_BUSI_with_GT"
    for kind, number, more in (
        ("benign", 1, ()),
        ("benign", 100, ("_1",)),
        ("benign", 195, ("_1", "_2")),
        ("malignant", 1, ()),
    ):
        image, masks = png(d.picture()), [d.mask() for _ in range(1 + len(more))]
        d.put(archive, f"{root}/{kind}/{kind} ({number}).png", image)
        for ending, mask in zip(("", *more), masks, strict=True):
            d.put(archive, f"{root}/{kind}/{kind} ({number})_mask{ending}.png", png_1_bit(mask))
        d.expect("ultrasound", f"{kind}_{number}", image, np.any(masks, axis=0))
    d.put(archive, f"{root}/normal/normal (1).png", png(d.picture()))
    d.put(archive, f"{root}/normal/normal (1)_mask.png", png(grey(np.zeros((HEIGHT, WIDTH), bool))))


@imitation("udiat", "Dataset B", 0)
def _(d: Download) -> None:
    for id in ("000001", "000007", "000163"):
        image, mask = png(d.picture()[..., 0]), d.mask()
        d.put("BUS.zip", f"BUS/original/{id}.png", image)
        d.put("BUS.zip", f"BUS/GT/{id}.png", png(grey(mask)))
        d.expect("ultrasound", id, image, mask)
    d.junk("BUS.zip", "BUS/DatasetB.xlsx")


@imitation("bus_bra", "the archive of Zenodo", 0)
def _(d: Download) -> None:
    rows: list[tuple[object, ...]] = [("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side", "BBOX")]
    for id, case in (("0001-l", 1), ("0001-r", 1), ("0027-s", 27)):
        image, mask = png(d.picture()[..., 0]), d.mask()
        d.put("BUSBRA.zip", f"BUSBRA/Images/bus_{id}.png", image)
        d.put("BUSBRA.zip", f"BUSBRA/Masks/mask_{id}.png", png(grey(mask)))
        rows.append((f"bus_{id}", case, "Fibroadenoma", "benign", 2, "Logiq 5", "left", '"[8,8,16,16]"'))
        d.expect("ultrasound", f"bus_{id}", image, mask, subject=str(case))
    d.put("BUSBRA.zip", "BUSBRA/bus_data.csv", table(rows))
    d.junk("BUSBRA.zip", "BUSBRA/5-fold-cv.csv", "BUSBRA/10-fold-cv.csv")


@imitation("ddti", "images with XML", 0)
def _(d: Download) -> None:
    boxes = {
        "1_1": [(2, 3, 9, 12)],
        "1_2": [(4, 5, 20, 8), (12, 14, 15, 20)],
        "22_1": [(0, 0, 6, 5)],
        "22_2": [(8, 8, 30, 20)],
    }
    for id, drawn in boxes.items():
        image = jpeg(d.picture())
        d.put("archive.zip", f"{id}.jpg", image)
        d.expect("ultrasound", id, image, filled(drawn, HEIGHT, WIDTH), subject=id.partition("_")[0])
    d.put("archive.zip", "1.xml", ddti_xml(1, [(1, boxes["1_1"]), (2, boxes["1_2"])]))
    # The marks of an image may be apart and in any order.
    d.put("archive.zip", "22.xml", ddti_xml(22, [(2, boxes["22_2"]), (1, boxes["22_1"])]))


@imitation("ddti", "images with masks", 1)
def _(d: Download) -> None:
    root = "DDTI dataset/DDTI"
    for id in ("0000", "0636"):
        image, mask = png(d.picture()), d.mask()
        d.put("DDTI dataset.zip", f"{root}/1_or_data/image/{id}.PNG", image)
        d.put("DDTI dataset.zip", f"{root}/1_or_data/mask/{id}.PNG", png(soft(mask)))
        d.junk("DDTI dataset.zip", f"{root}/2_preprocessed_data/stage1/p_image/{id}.PNG")
        d.junk("DDTI dataset.zip", f"{root}/2_preprocessed_data/stage1/p_mask/{id}.PNG")
        d.expect("ultrasound", id, image, mask)
    d.junk("DDTI dataset.zip", f"{root}/category.csv", f"{root}/2_preprocessed_data/train.csv")


@imitation("tn3k", "the folder tn3k, beside DDTI", 0, 1)
def _(d: Download) -> None:
    archive, root = "Thyroid Dataset.zip", "Thyroid Dataset/tn3k"
    for part, number, split in (("trainval", "0000", "train"), ("trainval", "2878", "train"), ("test", "0000", "test")):
        image, mask = jpeg(d.picture()), d.mask()
        d.put(archive, f"{root}/{part}-image/{number}.jpg", image)
        d.put(archive, f"{root}/{part}-mask/{number}.jpg", jpeg_mask(mask, d.seed))
        d.expect("ultrasound", f"{part}_{number}", image, mask, split=split)
    d.junk(archive, f"{root}/tn3k-trainval-fold0.json", f"{root}/label4trainval.csv")
    d.junk(archive, "Thyroid Dataset/DDTI dataset/DDTI/1_or_data/image/0000.PNG")
    d.junk(archive, "Thyroid Dataset/DDTI dataset/DDTI/1_or_data/mask/0000.PNG")


@imitation("stu_hospital", "the repository as a zip", 0)
def _(d: Download) -> None:
    archive, root = "STU-Hospital-master.zip", "STU-Hospital-master"
    for number in (1, 4, 42):
        image, mask = png(d.picture()), d.mask()
        larger = mask if number == 42 else np.repeat(np.repeat(mask, 2, 0), 2, 1)
        d.put(archive, f"{root}/Hospital/Test_Image_{number}.png", image)
        d.put(archive, f"{root}/Hospital/mask_{number}.png", png(soft(larger)))
        d.expect("ultrasound", f"Test_Image_{number}", image, mask)
    d.junk(archive, f"{root}/Hospital/mask_7.png", f"{root}/demo/Test_Image_2.png")
    d.junk(archive, f"{root}/Dataset B/BUS/DatasetB.xlsx", f"{root}/README.md")
