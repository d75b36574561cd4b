"""Dermoscopy: ISIC 2016 to 2018, PH2, HAM10000."""

from __future__ import annotations

from tests.support.imitations.download import Download, imitation
from tests.support.imitations.encode import bmp, grey, jpeg, png, png_1_bit, table


def _isic(d: Download, images: str, masks: str, id: str, ending: str, split: str, *, folders: bool = True) -> None:
    image, mask = jpeg(d.picture()), d.mask()
    d.put(f"{images}.zip", f"{images}/{id}.jpg" if folders else f"{id}.jpg", image)
    d.put(f"{masks}.zip", f"{masks}/{id}{ending}" if folders else f"{id}{ending}", png(grey(mask)))
    d.expect("dermoscopy", id, image, mask, split=split)


@imitation("isic2016", "four zips", 0, 1)
def _(d: Download) -> None:
    for part, id, split in (
        ("Training", "ISIC_0000000", "train"),
        ("Training", "ISIC_0000001", "train"),
        ("Test", "ISIC_0000003", "test"),
    ):
        images, masks = f"ISBI2016_ISIC_Part1_{part}_Data", f"ISBI2016_ISIC_Part1_{part}_GroundTruth"
        _isic(d, images, masks, id, "_Segmentation.png", split)
    d.junk("ISBI2016_ISIC_Part1_Test_Data.zip", "__MACOSX/ISBI2016_ISIC_Part1_Test_Data/._ISIC_0000003.jpg")


ISIC_2017 = (
    ("Training", "ISIC_0000000", "train"),
    ("Training", "ISIC_0000001", "train"),
    ("Validation", "ISIC_0001769", "validation"),
    ("Test_v2", "ISIC_0012086", "test"),
)


@imitation("isic2017", "six zips", 0, 1, 2)
def _(d: Download) -> None:
    for part, id, split in ISIC_2017:
        images, masks = f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth"
        _isic(d, images, masks, id, "_segmentation.png", split)
        d.junk(f"{images}.zip", f"{images}/{id}_superpixels.png")
        d.junk("ISIC-2017_Part2.zip", f"ISIC-2017_{part}_Part2_GroundTruth/{id}_features.json")
    d.junk("ISIC-2017_Training_Data.zip", "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv")


@imitation("isic2017", "six zips without folders", 0, 1, 2)
def _(d: Download) -> None:
    for part, id, split in ISIC_2017:
        images, masks = f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth"
        _isic(d, images, masks, id, "_segmentation.png", split, folders=False)
        d.junk(f"{images}.zip", f"{id}_superpixels.png")


@imitation("isic2018", "six zips, with those of task 2", 0, 1, 2)
def _(d: Download) -> None:
    for part, id, split in (
        ("Training", "ISIC_0000000", "train"),
        ("Training", "ISIC_0000001", "train"),
        ("Validation", "ISIC_0012255", "validation"),
        ("Test", "ISIC_0012169", "test"),
    ):
        images, masks = f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth"
        _isic(d, images, masks, id, "_segmentation.png", split)
    attributes = "ISIC2018_Task2_Training_GroundTruth_v3"
    for name in ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks"):
        d.junk(f"{attributes}.zip", f"{attributes}/ISIC_0000000_attribute_{name}.png")
    for name in ("LICENSE.txt", "ATTRIBUTION.txt"):
        d.junk("ISIC2018_Task1-2_Training_Input.zip", f"ISIC2018_Task1-2_Training_Input/{name}")
        d.junk("ISIC2018_Task1_Training_GroundTruth.zip", f"ISIC2018_Task1_Training_GroundTruth/{name}")


@imitation("ph2", "the RAR, unpacked", 0)
def _(d: Download) -> None:
    for id in ("IMD002", "IMD003", "IMD437"):
        image, mask = d.picture(), d.mask()
        folder = f"PH2 Dataset images/{id}"
        d.put("PH2Dataset", f"{folder}/{id}_Dermoscopic_Image/{id}.bmp", bmp(image))
        d.put("PH2Dataset", f"{folder}/{id}_lesion/{id}_lesion.bmp", bmp(mask))
        d.junk("PH2Dataset", f"{folder}/{id}_roi/{id}_R1_Label3.bmp", f"{folder}/{id}_roi/{id}_R2_Label4.bmp")
        d.expect("dermoscopy", id, image, mask)
    d.junk("PH2Dataset", "PH2_dataset.txt", "PH2_dataset.xlsx", "Readme.txt")


@imitation("ph2", "all files in one folder", 1)
def _(d: Download) -> None:
    for id in ("IMD002", "IMD427"):
        image, mask = d.picture(), d.mask()
        d.put("ph2.zip", f"{id}.bmp", bmp(image))
        d.put("ph2.zip", f"{id}_lesion.bmp", bmp(grey(mask)))
        d.expect("dermoscopy", id, image, mask)


HAM_LESIONS = {
    "ISIC_0027419": "HAM_0000118",
    "ISIC_0025030": "HAM_0000118",
    "ISIC_0029306": "HAM_0006469",
}
HAM_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def _ham_rows() -> list[tuple[str, ...]]:
    rows = [(lesion, id, "bkl", "histo", "80.0", "male", "scalp") for id, lesion in HAM_LESIONS.items()]
    return [HAM_COLUMNS, *rows, ("HAM_0002730", "ISIC_0026769", "bkl", "histo", "80.0", "male", "scalp")]


def _ham(d: Download, image_archive: dict[str, str], mask_path: str, mask_archive: str) -> None:
    for id, lesion in HAM_LESIONS.items():
        image, mask = jpeg(d.picture()), d.mask()
        part = "part_2" if id == "ISIC_0029306" else "part_1"
        d.put(image_archive[part], f"{image_archive[part + ' folder']}{id}.jpg", image)
        d.put(mask_archive, f"{mask_path}/{id}_segmentation.png", png_1_bit(mask))
        d.expect("dermoscopy", id, image, mask, subject=lesion)


@imitation("ham10000", "the files of Dataverse, with a table of tabs and no suffix", 0)
def _(d: Download) -> None:
    archives = {
        "part_1": "HAM10000_images_part_1.zip", "part_1 folder": "",
        "part_2": "HAM10000_images_part_2.zip", "part_2 folder": "",
    }  # fmt: skip
    masks = "HAM10000_segmentations_lesion_tschandl"
    _ham(d, archives, f"{masks}/{masks}", f"{masks}.zip")
    d.put("HAM10000_metadata", "", table(_ham_rows(), "\t"))
    d.junk(f"{masks}.zip", f"__MACOSX/{masks}/._ISIC_0027419_segmentation.png")


@imitation("ham10000", "the copy on Kaggle, where images lie twice, with the masks of Dataverse", 0)
def _(d: Download) -> None:
    archives = {
        "part_1": "archive.zip", "part_1 folder": "HAM10000_images_part_1/",
        "part_2": "archive.zip", "part_2 folder": "HAM10000_images_part_2/",
    }  # fmt: skip
    _ham(d, archives, "HAM10000_segmentations_lesion_tschandl", "HAM10000_segmentations_lesion_tschandl.zip")
    d.put("archive.zip", "HAM10000_metadata.csv", table(_ham_rows()))
    d.junk("archive.zip", "hmnist_28_28_L.csv")
    for id in HAM_LESIONS:
        path = f"ham10000_images_{'part_2' if id == 'ISIC_0029306' else 'part_1'}/{id}.jpg"
        d.put("archive.zip", path, d.archives["archive.zip"][path.replace("ham", "HAM")])
        d.skipped.add(path)
