"""Public datasets for the six modalities: what they are, whose they are, where they come from.

For finding data. Nothing here downloads anything: most of these sets ask for registration or consent at their source.
Licences are as far as known; the source's own words count.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicDataset:
    """`domain` is the folder name to use; `download` says which parts make image and mask pairs."""

    name: str
    modality: str
    domain: str
    paper: str
    licence: str
    url: str
    download: str


CATALOGUE: tuple[PublicDataset, ...] = (
    PublicDataset(
        "ISIC 2017, part 1",
        "dermoscopy",
        "isic2017",
        "Codella et al., Skin lesion analysis toward melanoma detection (ISBI challenge 2017), ISBI 2018",
        "CC0",
        "https://challenge.isic-archive.com/data/#2017",
        "training, validation and test images with the part 1 (lesion segmentation) ground truth",
    ),
    PublicDataset(
        "ISIC 2018, task 1",
        "dermoscopy",
        "isic2018",
        "Codella et al., Skin lesion analysis toward melanoma detection 2018, arXiv:1902.03368",
        "as on the challenge site",
        "https://challenge.isic-archive.com/data/#2018",
        "task 1-2 images with the task 1 ground truth; overlaps with ISIC 2017: do not use both as domains",
    ),
    PublicDataset(
        "PH2",
        "dermoscopy",
        "ph2",
        "Mendonca et al., PH2: a dermoscopic image database for research and benchmarking, EMBC 2013",
        "research and education",
        "https://www.fc.up.pt/addi/ph2%20database.html",
        "200 images with lesion masks",
    ),
    PublicDataset(
        "HAM10000",
        "dermoscopy",
        "ham10000",
        "Tschandl et al., Scientific Data 5, 2018; masks: Tschandl et al., Nature Medicine 26, 2020",
        "CC BY-NC 4.0",
        "https://doi.org/10.7910/DVN/DBW86T",
        "images and the lesion segmentations; images of one lesion share a lesion_id: use it as subject",
    ),
    PublicDataset(
        "BUSI",
        "ultrasound",
        "busi",
        "Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28, 2020",
        "CC BY 4.0 (as in the article)",
        "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        "benign and malignant images; several masks of an image are to be merged; holds repeated images",
    ),
    PublicDataset(
        "BUS-BRA",
        "ultrasound",
        "bus_bra",
        "Gomez-Flores et al., BUS-BRA: a breast ultrasound dataset, Medical Physics 51(4), 2024",
        "CC BY 4.0",
        "https://doi.org/10.5281/zenodo.8231412",
        "1875 images of 1064 patients with masks; the table tells the patients: use them as subjects",
    ),
    PublicDataset(
        "STU-Hospital",
        "ultrasound",
        "stu_hospital",
        "Zhuang et al., An RDAU-NET model for lesion segmentation in breast ultrasound images, PLoS ONE 14(8), 2019",
        "unknown",
        "https://github.com/xbhlk/STU-Hospital",
        "42 images with masks; masks are larger than images: bring them to one size",
    ),
    PublicDataset(
        "Kvasir-SEG",
        "colonoscopy",
        "kvasir_seg",
        "Jha et al., Kvasir-SEG: a segmented polyp dataset, MMM 2020",
        "research and education with citation",
        "https://datasets.simula.no/kvasir-seg/",
        "1000 images with masks; masks are JPEG: threshold them",
    ),
    PublicDataset(
        "CVC-ClinicDB",
        "colonoscopy",
        "cvc_clinicdb",
        "Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 43, 2015",
        "research and education with citation",
        "https://polyp.grand-challenge.org/CVCClinicDB/",
        "612 frames of about 30 sequences with masks; use the sequence as subject",
    ),
    PublicDataset(
        "CVC-ColonDB",
        "colonoscopy",
        "cvc_colondb",
        "Bernal et al., Towards automatic polyp detection with a polyp appearance model, Pattern Recognition 45(9), 2012",
        "research and education with citation",
        "http://vi.cvc.uab.es/colon-qa/cvccolondb/",
        "300 frames (380 in a common copy) of 15 sequences with masks; use the sequence as subject",
    ),
    PublicDataset(
        "ETIS-LaribPolypDB",
        "colonoscopy",
        "etis",
        "Silva et al., Toward embedded detection of polyps in WCE images, IJCARS 9(2), 2014",
        "research and education with citation",
        "https://polyp.grand-challenge.org/EtisLarib/",
        "196 frames with masks",
    ),
    PublicDataset(
        "DRIVE",
        "fundus",
        "drive",
        "Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23(4), 2004",
        "research, registration at the source",
        "https://drive.grand-challenge.org/",
        "40 photographs; masks of the first observer (1st_manual)",
    ),
    PublicDataset(
        "CHASE_DB1",
        "fundus",
        "chase_db1",
        "Fraz et al., An ensemble classification-based approach applied to retinal blood vessel segmentation, "
        "IEEE TBME 59(9), 2012",
        "CC BY 4.0 (as its university repository states)",
        "https://researchdata.kingston.ac.uk/96/",
        "28 photographs of 14 children; masks of the first observer (1stHO); left and right eye share a subject",
    ),
    PublicDataset(
        "HRF",
        "fundus",
        "hrf",
        "Budai et al., Robust vessel segmentation in fundus images, International Journal of Biomedical Imaging, 2013",
        "CC BY 4.0",
        "https://www5.cs.fau.de/research/data/fundus-images/",
        "45 photographs of 3504 x 2336 pixels with vessel masks",
    ),
    PublicDataset(
        "STARE",
        "fundus",
        "stare",
        "Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing, IEEE TMI 19(3), 2000",
        "research",
        "https://cecas.clemson.edu/~ahoover/stare/",
        "20 photographs with vessel masks of the first observer (labels-ah)",
    ),
    PublicDataset(
        "JSRT with SCR",
        "xray",
        "jsrt",
        "Shiraishi et al., AJR 174, 2000; masks: van Ginneken et al., Medical Image Analysis 10(1), 2006",
        "research, registration at the source",
        "http://db.jsrt.or.jp/eng.php",
        "247 radiographs (12 bit); SCR masks of the left and the right lung, to be merged",
    ),
    PublicDataset(
        "Montgomery County",
        "xray",
        "montgomery",
        "Jaeger et al., Quant Imaging Med Surg 4(6), 2014; Candemir et al., IEEE TMI 33(2), 2014",
        "research and education with citation",
        "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set/MontgomerySet/index.html",
        "138 radiographs; masks of the left and the right lung, to be merged",
    ),
    PublicDataset(
        "Shenzhen",
        "xray",
        "shenzhen",
        "Jaeger et al., Quant Imaging Med Surg 4(6), 2014; masks: Stirenko et al., ELNANO 2018",
        "research and education with citation",
        "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/index.html",
        "662 radiographs; masks of 566 of them are published apart",
    ),
    PublicDataset(
        "2018 Data Science Bowl (BBBC038)",
        "microscopy",
        "dsb2018",
        "Caicedo et al., Nucleus segmentation across imaging experiments, Nature Methods 16, 2019",
        "CC0",
        "https://bbbc.broadinstitute.org/BBBC038",
        "stage1_train; the nuclei's masks of an image are to be merged",
    ),
    PublicDataset(
        "MoNuSeg 2018",
        "microscopy",
        "monuseg",
        "Kumar et al., A multi-organ nucleus segmentation challenge, IEEE TMI 39(5), 2020",
        "CC BY-NC-SA 4.0",
        "https://monuseg.grand-challenge.org/Data/",
        "44 tiles of 1000 x 1000 pixels; outlines in XML are to be filled; parts of a tile share a subject",
    ),
    PublicDataset(
        "TNBC nuclei",
        "microscopy",
        "tnbc",
        "Naylor et al., Segmentation of nuclei in histopathology images by deep regression of the distance map, "
        "IEEE TMI 38(2), 2019",
        "CC BY 4.0",
        "https://doi.org/10.5281/zenodo.1175282",
        "50 tiles of 512 x 512 pixels from 11 patients with masks; use the patient as subject",
    ),
)


def datasets_of(modality: str) -> list[PublicDataset]:
    """The catalogue's entries of a modality."""
    return [entry for entry in CATALOGUE if entry.modality == modality]
