"""Trees that are no canonical folder, as people bring them: which level is missing, and the tree as it should be."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.data.folder.paths import PARTS, domain_folders, has_parts, part_folder, pictures, relative, subfolders
from harness.data.folder.sample import MANIFEST, MODALITIES, Problem

_PHANTOMS = "Without data of your own, draw some: `python -m harness data phantoms --out FOLDER`."


def explain_layout(root: Path) -> str:
    """Why `root`, in which there is no `<modality>/<domain>/images`, is no dataset; says what to move where."""
    deeper = sorted(root.glob(f"*/{MANIFEST}")) or [
        folder for folder in subfolders(root) if any(domain_folders(folder))
    ]
    if deeper and deeper[0].name == MANIFEST:
        return f"{_expected(root)} Did you mean {deeper[0].parent}?"
    if len(deeper) == 1:
        return f"{_expected(root)} Did you mean {deeper[0]}?"
    if deeper:
        names = ", ".join(folder.name for folder in deeper[:4])
        return (
            f"{root}: there is a level too many above the modalities ({names}). Expected {root}/<modality>/<domain>/images: "
            "give one of these folders, or put what is in them together."
        )
    if has_parts(root):
        if root.parent.name in MODALITIES:
            return f"{root}: is the folder of one domain. Give the folder that holds the modalities: {root.parents[1]}."
        found = _missing(root, "images and masks lie directly in it", "modality and domain", "<modality>/<domain>")
        return f"{found} {how_to_add(root)}"
    without = [folder for folder in subfolders(root) if has_parts(folder)]
    if without:
        return _one_level_missing(root, without)
    if pictures(root)[0]:
        levels = "modality, domain and images or masks"
        return f"{_missing(root, 'pictures lie directly in it', levels, '<modality>/<domain>')} {how_to_add(root)}"
    classes = [folder for folder in subfolders(root) if pictures(folder)[0]]
    if classes:
        return _folders_of_pictures(root, classes)
    domains = [domain for modality in subfolders(root) for domain in subfolders(modality) if pictures(domain)[0]]
    if domains:
        place = relative(domains[0], root)
        return f"{_missing(root, f'pictures lie directly in {place}', 'images and masks', place)} {how_to_add(root)}"
    return f"{_expected(root)} {how_to_add(root)} {_PHANTOMS}"


def how_to_add(root: Path) -> str:
    """The command that makes a dataset of images as they came, for the end of a message."""
    command = f"python -m harness data add {shlex.quote(str(root))} --modality MODALITY --root NEW_FOLDER"
    return f"Images as they came, in any layout, become a dataset by `{command}`."


def without_domain(root: Path) -> list[Problem]:
    """Modalities whose images lie directly in them, beside others that are as they should be."""
    message = "lies directly in its modality: the level of the domain is missing. Move it to {}."
    return [
        Problem("no domain", relative(folder, root), message.format(f"{modality.name}/<domain>/{part}"))
        for modality in subfolders(root)
        for part in PARTS
        if (folder := part_folder(modality, part)) is not None and not has_parts(folder)
    ]


def _expected(root: Path) -> str:
    inside = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    found = ", ".join(inside[:8]) + (" ..." if len(inside) > 8 else "") if inside else "an empty folder"
    return f"{root}: expected {MANIFEST}, or folders <modality>/<domain>/images and <modality>/<domain>/masks; found {found}."


def _one_level_missing(root: Path, folders: list[Path]) -> str:
    names = ", ".join(f"{folder.name}/images" for folder in folders[:4])
    if root.name in MODALITIES:
        return f"{root}: is the folder of one modality ({names}). Give the folder that holds the modalities: {root.parent}."
    if any(folder.name in MODALITIES for folder in folders):
        known = next(folder for folder in folders if folder.name in MODALITIES)
        return _missing(root, f"images lie in {names}", "domain", f"{known.name}/<domain>")
    name = folders[0].name
    return (
        f"{root}: images lie in {names}; one level is missing. Expected\n"
        f"{_tree(root, f'{name}/<domain>')}\nwhen '{name}' is a modality, or\n"
        f"{_tree(root, f'<modality>/{name}')}\nwhen it is a domain (a hospital, a device) of a modality."
    )


def _folders_of_pictures(root: Path, folders: list[Path]) -> str:
    names = ", ".join(folder.name for folder in folders[:4]) + (" ..." if len(folders) > 4 else "")
    found = f"pictures lie directly in {names}, as in folders of classes"
    known = [folder.name for folder in folders if folder.name in MODALITIES]
    if known:
        return _missing(root, found, "domain, and that of images and masks", f"{known[0]}/<domain>")
    hint = f" A class is no level: images of all classes go together, each with a mask of its own. {how_to_add(root)}"
    return _missing(root, found, "modality and domain, and that of images and masks", "<modality>/<domain>") + hint


def _missing(root: Path, found: str, levels: str, place: str) -> str:
    return (
        f"{root}: {found}; the level of {levels} is missing. Expected\n{_tree(root, place)}\nMove the pictures there."
    )


def _tree(root: Path, place: str) -> str:
    return f"  {root}/{place}/images/<id>.png\n  {root}/{place}/masks/<id>.png"
