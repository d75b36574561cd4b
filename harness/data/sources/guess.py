"""Which files of a folder that nobody described are images, which their masks: by names, and by content where names say nothing.

A name is cut into words (`labelsTr/case_7_mask.png`: labels, tr, case, 7, mask). Words such as mask, label or gt make a file a
mask; what is left of its name is the image's. Several masks of an image are united; several *sets* of masks (two readers, a field
of view beside the vessels) are a question, as are several labels in one mask.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.data.folder.sample import Problem
from harness.data.reading.picture import SUFFIXES as PICTURES
from harness.data.reading.picture import decode
from harness.data.sources.archives import Member
from harness.data.sources.images import SUFFIXES, gunzipped
from harness.data.sources.masks import values_in
from harness.data.sources.outlines import ONE_FOR_ALL, format_of, images_in, labels_in
from harness.data.sources.pairing import SourcePair, plain_id
from harness.data.sources.recipe import Layout
from harness.errors import UserError, counted, kinds_of

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_MASK = {
    "mask", "masks", "label", "labels", "lbl", "gt", "gts", "ground", "truth", "groundtruth", "seg", "segs", "segmentation",
    "segmentations", "segmented", "annotation", "annotations", "annot", "manual", "target", "targets", "matte",
}  # fmt: skip
_IMAGE = {"image", "images", "img", "imgs", "input", "inputs", "original", "originals", "photo", "photos", "jpeg", "raw"}  # fmt: skip
_SILENT = {"tr", "ts", "va"}
"""Of nnU-Net's imagesTr and labelsTs."""
_SPLITS = {"train": "train", "training": "train", "tr": "train", "val": "validation", "valid": "validation",
           "validation": "validation", "dev": "validation", "test": "test", "testing": "test", "ts": "test"}  # fmt: skip
_TRIED = 5
_MOST_LABELS = 12


@dataclass(frozen=True)
class Choice:
    """One reading of the folder.

    Attributes:
        words: for a person who is to choose.
        lone: images without a mask in this reading.
    """

    words: str
    pairs: list[SourcePair]
    lone: list[Problem]


@dataclass(frozen=True)
class _File:
    member: Member
    folders: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def place(self) -> tuple[str, ...]:
        """The folders, without what says image or mask: the same for an image and its mask."""
        parts = (" ".join(w for w in _words(part) if w not in _MASK | _IMAGE | _SILENT) for part in self.folders)
        return tuple(part for part in parts if part)

    @property
    def name(self) -> tuple[str, ...]:
        """The words of the name, without what says image or mask and what counts masks behind it."""
        words = list(self.words)
        while len(words) > 2 and words[-1].isdigit() and words[-2] in _MASK:
            words.pop()
        return tuple(word for word in words if word not in _MASK | _IMAGE) or self.words


def guess_pairs(members: Sequence[Member], modality: str, domain: str, scratch: Path) -> list[Choice]:
    """The readings of a folder, the likeliest first; one alone where there is no doubt.

    Args:
        members: its files.
        scratch: a folder for copies of the few files whose content is looked at.

    Raises:
        UserError: no pair was found in any way; says what was seen.
    """
    pictures = [_file(member) for member in _below_common(members) if _is_picture(member)]
    choices = _by_outlines(members, pictures, modality, domain, scratch)
    masks = _masks_among(pictures, scratch)
    if masks:
        images = [file for file in pictures if file not in set(masks)]
        choices += _by_sets(images, masks, modality, domain, scratch)
    choices = [choice for choice in choices if choice.pairs]
    if not choices:
        raise UserError(_nothing_found(members, pictures, masks))
    return sorted(choices, key=lambda choice: -len(choice.pairs))


def _below_common(members: Sequence[Member]) -> list[Member]:
    """Without the folders that all files share: their names say nothing of one file."""
    parts = [PurePosixPath(member.path).parts[:-1] for member in members]
    common = 0
    while parts and all(len(one) > common and one[common] == parts[0][common] for one in parts):
        common += 1
    return [replace(member, path="/".join(PurePosixPath(member.path).parts[common:])) for member in members]


def _file(member: Member) -> _File:
    path = PurePosixPath(member.path)
    return _File(member, path.parts[:-1], tuple(_words(_stem(path.name))))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _stem(name: str) -> str:
    return PurePosixPath(re.sub(r"\.gz$", "", name, flags=re.IGNORECASE)).stem


def _is_picture(member: Member) -> bool:
    return re.sub(r"(?<!\.nii)\.gz$", "", member.name.lower()).endswith(SUFFIXES)


def _masks_among(pictures: Sequence[_File], scratch: Path) -> list[_File]:
    """The masks: by a word in the name, in a folder's name, or by having two values where no name tells."""
    everywhere = set.intersection(*(set(file.words) for file in pictures)) if pictures else set()
    by_name = [file for file in pictures if _says_mask(file, everywhere)]
    if by_name and len(by_name) < len(pictures):
        return by_name
    groups: dict[tuple[tuple[str, ...], str, tuple[str, ...]], list[_File]] = {}
    for file in pictures:
        letters = tuple(word for word in file.words if not word.isdigit())
        groups.setdefault((file.folders, PurePosixPath(file.member.path).suffix.lower(), letters), []).append(file)
    if len(groups) < 2:
        return []
    return [
        file
        for files in groups.values()
        if all(_looks_binary(one, scratch) for one in files[:_TRIED])
        for file in files
    ]


def _says_mask(file: _File, everywhere: set[str]) -> bool:
    if (set(file.words) - everywhere) & _MASK:
        return True
    for folder in reversed(file.folders):
        words = set(_words(folder))
        if words & _MASK:
            return True
        if words & _IMAGE:
            return False
    return False


def _looks_binary(file: _File, scratch: Path) -> bool:
    try:
        return len(values_in(_copy(file.member, scratch))) <= 2
    except UserError:
        return False


def _by_sets(
    images: Sequence[_File], masks: Sequence[_File], modality: str, domain: str, scratch: Path
) -> list[Choice]:
    """A choice for each set of masks, and one for all of them united."""
    sets: dict[str, dict[_File, list[_File]]] = {}
    index = _Index(images)
    for mask in masks:
        image, rest = index.find(mask)
        if image is not None:
            sets.setdefault(_set_of(mask, rest), {}).setdefault(image, []).append(mask)
    found = sorted(sets.items(), key=lambda item: -len(item[1]))
    found = [(name, joined) for name, joined in found if len(joined) * 2 >= len(found[0][1])]
    if not found:
        return []
    united: dict[_File, list[_File]] = {}
    for _, joined in found:
        for image, own in joined.items():
            united.setdefault(image, []).extend(own)
    names = " and ".join(name for name, _ in found)
    if len(united) == sum(len(joined) for _, joined in found):
        # No image has masks of two sets (labelsTr and labelsTs): nothing to choose from.
        readings = [(f"masks: {names}", united)]
    else:
        readings = [(f"masks: {name}", joined) for name, joined in found]
        sides = any({"left", "right"} & set(_words(name)) for name, _ in found)
        readings.insert(0 if sides else len(readings), (f"{names} united", united))
    choices = []
    for words, joined in readings:
        foregrounds = _foregrounds([mask for own in joined.values() for mask in own], scratch)
        for foreground, meaning in foregrounds if len(readings) == 1 else foregrounds[:1]:  # one question, not two
            pairs = _named(joined, modality, domain, foreground)
            lone = [
                Problem("image without mask", f.member.path, "no mask has its name.") for f in images if f not in joined
            ]
            several = max(len(own) for own in joined.values())
            more = f", up to {several} for an image" if several > 1 else ""
            choices.append(Choice(f"{len(pairs)} pairs, {words}{more}{meaning}", pairs, lone))
    return choices


class _Index:
    """Finds the image of a mask by its name, or by a folder that holds one image alone."""

    def __init__(self, images: Iterable[_File]) -> None:
        self.by_name: dict[tuple[str, ...], list[_File]] = {}
        self.by_place: dict[tuple[str, ...], list[_File]] = {}
        for image in images:
            name = image.name
            if name[-1:] == ("0000",) and len(name) > 1:  # the channel in names of nnU-Net
                self.by_name.setdefault(name[:-1], []).append(image)
            self.by_name.setdefault(name, []).append(image)
            self.by_place.setdefault(image.place, []).append(image)

    def find(self, mask: _File) -> tuple[_File | None, tuple[str, ...]]:
        """The image, and the words that the mask's name has more than the image's."""
        for end in range(len(mask.name), 0, -1):
            near = self.by_name.get(mask.name[:end], [])
            same = [image for image in near if image.place == mask.place]
            chosen = same if same else near
            if len(chosen) == 1:
                return chosen[0], mask.name[end:]
            if same or near:
                return None, ()
        alone = self.by_place.get(mask.place, []) if mask.place else []
        return (alone[0], ()) if len(alone) == 1 else (None, ())


def _set_of(mask: _File, rest: tuple[str, ...]) -> str:
    """What tells masks of one set from those of another: folders that say mask, and words of the name that are no number."""
    folders = [_of_all_splits(part) for part in mask.folders if set(_words(part)) & _MASK]
    words = [word for word in mask.words if word in _MASK]
    own = " ".join(rest) if any(not word.isdigit() for word in rest) else ""
    parts = ["/".join(folders), " ".join(word for word in ("_".join(words), own) if word)]
    return ", ".join(part for part in parts if part) or "files of the same name"


def _of_all_splits(folder: str) -> str:
    """labelsTr and labelsTs are one set: "labels"."""
    words = _words(folder)
    rest = [word for word in words if word not in _SPLITS]
    return folder if len(rest) == len(words) else " ".join(rest)


def _foregrounds(masks: Sequence[_File], scratch: Path) -> list[tuple[str | None, str]]:
    """(rule, words for a person): one where the masks leave no doubt."""
    values: set[float] = set()
    lossy = coloured = False
    for mask in masks[:: max(1, len(masks) // _TRIED)][:_TRIED]:
        copy = _copy(mask.member, scratch)
        with _named_as(mask.member, copy):
            values |= set(values_in(copy))
            picture = decode(copy, "mask") if copy.suffix.lower() in PICTURES else None
        if picture is not None:
            lossy |= picture.lossy
            coloured |= picture.values.ndim == 3 and not bool((picture.values == picture.values[..., :1]).all())
    if lossy:
        return [("> 127", ", white where JPEG left it bright (> 127)")]
    labels = sorted(value for value in values if value != 0)
    if len(labels) <= 1:
        return [(None, "")]
    if coloured:
        return [("nonzero", ", all colours but black")]
    if len(labels) > _MOST_LABELS or any(value != int(value) for value in labels):
        return [("nonzero", ", one number for each object: all are taken")]
    each = [(f"= {label:g}", f", label {label:g} alone") for label in labels]
    return [("nonzero", f", all labels ({', '.join(f'{label:g}' for label in labels)})"), *each]


def _named(joined: dict[_File, list[_File]], modality: str, domain: str, foreground: str | None) -> list[SourcePair]:
    """Pairs with ids: the image's name, with its folders where names repeat."""
    stems = Counter(_stem(image.member.name) for image in joined)
    pairs = []
    for image, masks in joined.items():
        stem = _stem(image.member.name)
        text = stem if stems[stem] == 1 else "_".join((*image.place, stem))
        layout = Layout(image=image.member.path, masks=tuple(m.member.path for m in masks), foreground=foreground)
        pairs.append(
            SourcePair(
                modality, domain, plain_id(text), image.member,
                tuple(mask.member for mask in masks), layout, split=_split_of(image),
            )
        )  # fmt: skip
    return sorted(pairs, key=lambda pair: pair.id)


def _split_of(image: _File) -> str | None:
    found = {_SPLITS[word] for part in image.folders for word in _words(part) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def _by_outlines(
    members: Sequence[Member], pictures: Sequence[_File], modality: str, domain: str, scratch: Path
) -> list[Choice]:
    """Choices from files of annotation programs: one for all labels, and one for each where there are several."""
    found: dict[_File, tuple[Member, str]] = {}
    labels: Counter[str] = Counter()
    by_file = {image.member.name: image for image in pictures}
    by_stem = {_stem(image.member.name): image for image in pictures}
    for member in members:
        if not member.name.lower().endswith((".json", ".xml", ".roi", ".zip")):
            continue
        copy = _copy(member, scratch)
        with _named_as(member, copy):
            kind = format_of(copy)
            if kind is None:
                continue
            names = images_in(copy, kind) if kind in ONE_FOR_ALL else [_stem(member.name)]
        for name in names:
            image = by_file.get(name) or by_stem.get(_stem(name)) or by_stem.get(name)
            if image is not None:
                found[image] = (member, kind)
        labels.update(labels_in(copy, kind))
    choices = []
    several = sorted(labels) if len(labels) > 1 else []
    for label in ["", *several]:
        pairs = []
        for image, (member, kind) in found.items():
            masks_as = f"{kind}:{label}" if label else kind
            layout = Layout(image=image.member.path, masks=(member.path,), masks_as=masks_as)
            name = plain_id(_stem(image.member.name))
            pairs.append(SourcePair(modality, domain, name, image.member, (member,), layout, split=_split_of(image)))
        kinds = ", ".join(sorted({kind for _, kind in found.values()}))
        which = (
            f"label {label} alone"
            if label
            else f"all labels ({', '.join(sorted(labels))})"
            if several
            else "all shapes"
        )
        lone = [Problem("image without mask", f.member.path, "no outlines.") for f in pictures if f not in found]
        choices.append(Choice(f"{len(pairs)} pairs, outlines in the format {kinds}, {which}", pairs, lone))
    return choices


def _copy(member: Member, scratch: Path) -> Path:
    """A copy to look into, with the suffix that its reader wants."""
    scratch.mkdir(parents=True, exist_ok=True)
    suffixes = PurePosixPath(member.name).suffixes
    end = "".join(suffixes[-2:]) if member.name.lower().endswith(".gz") else (suffixes or [""])[-1]
    name = hashlib.sha256(f"{member.source}\0{member.path}".encode(errors="surrogateescape")).hexdigest()
    place = scratch / f"{name[:32]}{end}"
    if not place.exists():
        member.save(place)
    return gunzipped(place)


@contextmanager
def _named_as(member: Member, copy: Path) -> Iterator[None]:
    """What is wrong with the copy is said of the user's own file."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(copy), str(member))) from error


def _nothing_found(members: Sequence[Member], pictures: Sequence[_File], masks: Sequence[_File]) -> str:
    folders = sorted({"/".join(file.folders) or "." for file in pictures})[:8]
    if not pictures:
        return (
            f"{members[0].source}: expected images and masks ({', '.join(SUFFIXES)}), found only"
            f" {kinds_of(member.path for member in members)}. Convert them to one of these first."
        )
    where = members[0].source
    what = f"{counted(len(pictures), 'picture')} in {', '.join(folders)}, {len(masks)} of them masks"
    example = f" (for example {pictures[0].member.path})"
    return (
        f"{where}: expected images and masks that belong together by name, found {what}{example}. Give masks the names of their"
        " images in a folder 'masks' beside 'images', or add '_mask' to them."
    )
