"""Polyps: the CVC sets, ETIS, Kvasir-SEG, PolypGen."""

from __future__ import annotations

from tests.support.imitations.download import Download, imitation
from tests.support.imitations.encode import bmp, in_colour, jpeg, jpeg_mask, png, soft, table, tif

SEQUENCES = {"1": "1", "25": "1", "26": "2", "612": "29"}
"""Frames of CVC-ClinicDB, and the numbers of their sequences."""


@imitation("cvc_clinicdb", "the archive of the challenge, unpacked", 0)
def _(d: Download) -> None:
    for id, sequence in SEQUENCES.items():
        image, mask = tif(d.picture()), d.mask()
        d.put("CVC-ClinicDB", f"Original/{id}.tif", image)
        d.put("CVC-ClinicDB", f"Ground Truth/{id}.tif", tif(soft(mask)))
        d.expect("colonoscopy", id, image, mask, subject=sequence)
    d.junk("CVC-ClinicDB", "README.txt")


def _clinic_kaggle(d: Download, truth: str) -> None:
    for id, sequence in SEQUENCES.items():
        image, mask = png(d.picture()), d.mask()
        d.put("archive.zip", f"PNG/Original/{id}.png", image)
        d.put("archive.zip", f"PNG/{truth}/{id}.png", png(in_colour(soft(mask))))
        d.expect("colonoscopy", id, image, mask, subject=sequence)
    rows = [("frame_id", "sequence_id", "png_image_path", "png_mask_path")]
    rows += [(id, number, f"PNG/Original/{id}.png", f"PNG/{truth}/{id}.png") for id, number in SEQUENCES.items()]
    d.put("archive.zip", "metadata.csv", table(rows))


@imitation("cvc_clinicdb", "a copy on Kaggle", 1)
def _(d: Download) -> None:
    _clinic_kaggle(d, "Ground Truth")


@imitation("cvc_clinicdb", "a copy on Kaggle without blanks", 1)
def _(d: Download) -> None:
    _clinic_kaggle(d, "GroundTruth")


@imitation("cvc_colondb", "the set of 300 frames", 0)
def _(d: Download) -> None:
    for id in ("1", "2", "300"):
        image, mask = d.picture(), d.mask()
        d.put("CVC-ColonDB.zip", f"CVC-ColonDB/{id}.bmp", bmp(image))
        d.put("CVC-ColonDB.zip", f"CVC-ColonDB/p{id}.bmp", bmp(soft(mask)))
        d.junk("CVC-ColonDB.zip", f"CVC-ColonDB/s{id}.bmp", f"CVC-ColonDB/c{id}.bmp")
        d.expect("colonoscopy", id, image, mask)


def _benchmark(d: Download, archive: str, folder: str, ids: tuple[str, ...], *, split: str = "") -> None:
    """Copies for benchmarks; their masks have a soft edge here and there."""
    for id in ids:
        image, mask = png(d.picture()), d.mask()
        d.put(archive, f"{folder}/images/{id}.png", image)
        d.put(archive, f"{folder}/masks/{id}.png", png(in_colour(soft(mask))))
        d.expect("colonoscopy", id, image, mask, split=split)


@imitation("cvc_colondb", "the copy of 380 frames", 1)
def _(d: Download) -> None:
    _benchmark(d, "archive.zip", "CVC-ColonDB", ("1", "10", "380"))


@imitation("etis", "the RAR, unpacked", 0)
def _(d: Download) -> None:
    for id in ("1", "11", "196"):
        image, mask = tif(d.picture()), d.mask()
        d.put("ETIS", f"ETIS-LaribPolypDB/ETIS-LaribPolypDB/{id}.tif", image)
        d.put("ETIS", f"ETIS-LaribPolypDB/Ground Truth/p{id}.tif", tif(in_colour(soft(mask))))
        d.expect("colonoscopy", id, image, mask)


@imitation("etis", "the copy of the challenge: images PNG, masks BMP", 0)
def _(d: Download) -> None:
    for id in ("1", "2"):
        image, mask = png(d.picture()), d.mask()
        d.put("ETIS", f"ETIS-LaribPolypDB/{id}.png", image)
        d.put("ETIS", f"Ground Truth/p{id}.bmp", bmp(soft(mask)))
        d.expect("colonoscopy", id, image, mask)


@imitation("etis", "with other sets in TestDataset", 1)
def _(d: Download) -> None:
    _benchmark(d, "TestDataset.zip", "TestDataset/ETIS-LaribPolypDB", ("1", "196"))
    for other in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "Kvasir"):
        d.junk("TestDataset.zip", f"TestDataset/{other}/images/1.png", f"TestDataset/{other}/masks/1.png")


@imitation("cvc_300", "with other sets in TestDataset", 0)
def _(d: Download) -> None:
    _benchmark(d, "TestDataset.zip", "TestDataset/CVC-300", ("149", "208"), split="test")
    for other in ("ETIS-LaribPolypDB", "CVC-ClinicDB", "CVC-ColonDB", "Kvasir"):
        d.junk("TestDataset.zip", f"TestDataset/{other}/images/149.png", f"TestDataset/{other}/masks/149.png")


@imitation("cvc_300", "the folder itself", 0)
def _(d: Download) -> None:
    for id in ("149", "150"):
        image, mask = png(d.picture()), d.mask()
        d.put("CVC-300", f"images/{id}.png", image)
        d.put("CVC-300", f"masks/{id}.png", png(soft(mask)))
        d.expect("colonoscopy", id, image, mask, split="test")


@imitation("kvasir_seg", "kvasir-seg.zip", 0)
def _(d: Download) -> None:
    for id in ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0roawvklrq0799vmjorwfv"):
        image, mask = jpeg(d.picture()), d.mask()
        d.put("kvasir-seg.zip", f"Kvasir-SEG/images/{id}.jpg", image)
        d.put("kvasir-seg.zip", f"Kvasir-SEG/masks/{id}.jpg", jpeg_mask(mask, d.seed, channels=3, soft_edge=False))
        d.expect("colonoscopy", id, image, mask)
    d.junk("kvasir-seg.zip", "Kvasir-SEG/kavsir_bboxes.json")


@imitation("polypgen", "the archive of Synapse", 0, 1)
def _(d: Download) -> None:
    root, archive = "PolypGen2021_MultiCenterData_v3", "PolypGen2021_MultiCenterData_v3.zip"
    for number, (centre, stem, mask_stem, id) in enumerate(
        (
            ("C1", "100H0050", "100H0050", "C1_100H0050"),
            ("C3", "C3_EndoCV2021_00488", "C3_EndoCV2021_00488", "C3_C3_EndoCV2021_00488"),
            ("C3", "C3_EndoCV2021_00489_", "C3_EndoCV2021_00489", "C3_C3_EndoCV2021_00489"),
            ("C6", "EndoCV2021_C6_0100001", "EndoCV2021_C6_0100001", "C6_EndoCV2021_C6_0100001"),
        )
    ):
        image, mask = jpeg(d.picture()), d.mask()
        d.put(archive, f"{root}/data_{centre}/images_{centre}/{stem}.jpg", image)
        mask_path = f"{root}/data_{centre}/masks_{centre}/{mask_stem}_mask.jpg"
        d.put(archive, mask_path, jpeg_mask(mask, d.seed, channels=1 + 2 * (number % 2)))
        d.put(archive, f"{root}/imagesAll_positive/{stem}.jpg", image)
        d.junk(archive, f"{root}/data_{centre}/bbox_{centre}/{mask_stem}_mask.txt")
        d.expect("colonoscopy", id, image, mask)
    for seq, stem in (("seq1", "C2_2_0001"), ("seq1", "C2_2_0002"), ("seq23", "C4_9_0001")):
        image, mask = jpeg(d.picture()), d.mask()
        folder = f"{root}/sequenceData/positive/{seq}"
        d.put(archive, f"{folder}/images_{seq}/{stem}.jpg", image)
        d.put(archive, f"{folder}/masks_{seq}/{stem}_mask.jpg", jpeg_mask(mask, d.seed))
        d.junk(archive, f"{folder}/masks_{seq}/{stem}.txt")
        d.expect("colonoscopy", f"{seq}_{stem}", image, mask, subject=seq)
    d.junk(archive, f"{root}/sequenceData/negativeOnly/seq1_neg/C1_1_0001.jpg", f"{root}/data_C1/.DS_Store")
    d.junk(archive, f"{root}/license.txt", f"{root}/dataDetails_PolypGen_SingleFrames/dataDetails_C1.csv")
