"""The YAML tree: the shipped one in the package `suites` and a user's own (`--config-dir`), laid out alike.

Hydra places a file in the configuration by its `# @package` header and takes any header, or none, without a word: a copied
file would then replace another method. So the files that a run chooses are looked at before Hydra composes them.
"""

from __future__ import annotations

import functools
import re
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from harness.errors import UserError, did_you_mean, found_at

ENTRY_POINTS = "delightsam_bench.configs"
GROUPS = ("suite", "method", "algorithm", "data", "protocol", "training", "executor", "sweep")


def parse_yaml(text: str) -> Any:
    """Reads YAML, by the reader in C where it is installed: 12 times as fast."""
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def config_folder() -> Path:
    """The folder of the shipped YAML tree."""
    return Path(str(resources.files("suites")))


def config_folders(extra_folder: Path | None = None) -> list[Path]:
    """The shipped tree, those of installed packages, and a user's own (`--config-dir`)."""
    return [config_folder(), *installed_folders()] + ([extra_folder] if extra_folder else [])


@functools.cache
def installed_folders() -> tuple[Path, ...]:
    """Trees of other packages, which name themselves by an entry point:

        [project.entry-points."delightsam_bench.configs"]
        mine = "my_package.configs"        # a package that holds method/mine.yaml and the like

    Raises:
        UserError: such a package can't be found, is not laid out as a tree, or takes a shipped name.
    """
    folders = []
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            folder = Path(str(resources.files(entry.value)))
        except (ImportError, TypeError) as error:
            raise UserError(
                f"The installed package that names '{entry.value}' under the entry points {ENTRY_POINTS} can't be used:"
                f" {error}. Expected a package with folders such as method/. Fix the package or uninstall it."
            ) from error
        check_own_tree(folder, origin=f"The entry point {entry.name} = {entry.value}:")
        folders.append(folder)
    return tuple(folders)


def option_names(group: str, extra_folder: Path | None = None) -> list[str]:
    """Names in a group of the tree, for example `option_names("method") -> ["delightsam", "unet", ...]`."""
    return sorted({path.stem for folder in config_folders(extra_folder) for path in (folder / group).glob("*.yaml")})


def unknown_name(group: str, name: str, extra_folder: Path | None) -> str:
    """The message about a name that no file of the group has: another group's name, a near one, or where own files would be."""
    for other in GROUPS:
        if name in option_names(other, extra_folder):
            return f"Unknown {group} '{name}': it is the name of a file in {other}/. Write {other}={name}."
    hint = did_you_mean(name, option_names(group, extra_folder))
    own = f" A file {group}/{name}.yaml of your own is found with --config-dir DIR." if extra_folder is None else ""
    return f"Unknown {group} '{name}'.{hint}{own}"


def file_of(group: str, name: str, extra_folder: Path | None = None) -> Path:
    """The file `<group>/<name>.yaml`, the user's, an installed package's or the shipped one."""
    candidates = [folder / group / f"{name}.yaml" for folder in config_folders(extra_folder)]
    return next((path for path in reversed(candidates) if path.is_file()), candidates[0])


def check_own_tree(folder: Path, origin: str = "--config-dir") -> None:
    """Checks that a folder is laid out as the shipped tree, and that none of its names is taken.

    Raises:
        UserError: no folder, no group in it that is known, or a shipped file's name.
    """
    if not folder.is_dir():
        raise UserError(f"{origin} {folder}: expected a folder, found {found_at(folder)}")
    if not any((folder / group).is_dir() for group in GROUPS):
        found = sorted(path.name for path in folder.iterdir())
        raise UserError(
            f"{origin} {folder}: expected at least one of the folders {', '.join(GROUPS)} in it (your method is"
            f" {folder}/method/mine.yaml), found {', '.join(found[:5]) or 'nothing'}."
        )
    for group in GROUPS:
        shipped = {path.stem for path in (config_folder() / group).glob("*.yaml")}
        both = sorted(shipped & {path.stem for path in (folder / group).glob("*.yaml")})
        if both:
            raise UserError(
                f"{folder}/{group}/{both[0]}.yaml has the name of a shipped {group}, which would win. Give yours another."
            )


def check_header(group: str, name: str, extra_folder: Path | None = None) -> None:
    """Checks that Hydra will put a file where it belongs.

    Raises:
        UserError: names the file, what stands at its top and the line to put there.
    """
    path = file_of(group, name, extra_folder)
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    package = _package(lines)
    named = {"method": f"methods.{name}", "algorithm": f"algorithms.{name}", "suite": "_global_"}
    expected = named.get(group, group)
    if package == expected or (group not in named and package in (None, "_group_", "_global_")):
        return
    first = lines[0] if lines else "an empty file"
    found = f"# @package {package}" if package is not None else first if len(first) <= 60 else f"{first[:57]}..."
    raise UserError(
        f"{path}: expected a header that says where in the configuration it belongs, found '{found}'."
        f" Put this line at the very top:\n# @package {expected}"
    )


def choices_of_suite(name: str, extra_folder: Path | None = None, heirs: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """What a suite's `defaults:` choose of other groups, for example `{"method": ["unet", "otsu"]}`.

    Args:
        heirs: the suites that inherit from this one.

    Raises:
        UserError: names the suite's file, and the line or the name in it that is wrong.
    """
    check_header("suite", name, extra_folder)
    path = file_of("suite", name, extra_folder)
    content = _mapping(path)
    defaults = content.get("defaults") or []
    if not isinstance(defaults, list):
        raise UserError(f"{path}: expected defaults to be a list of lines such as '- override /method: [unet, otsu]'.")
    inherited: dict[str, list[str]] = {}
    own: dict[str, list[str]] = {}
    for entry in defaults:
        if isinstance(entry, dict) and len(entry) == 1:
            ((key, value),) = entry.items()
            group = _group_of(str(key), value, path)
            own[group] = [str(item) for item in (value if isinstance(value, list) else [value])]
            _check_names(group, own[group], path, extra_folder)
        elif entry != "_self_":
            parent = str(entry)
            _check_names("suite", [parent], path, extra_folder)
            if parent in (name, *heirs):
                raise UserError(f"{path}: its defaults name '{parent}', which inherits from this suite.")
            inherited.update(choices_of_suite(parent, extra_folder, (name, *heirs)))
    return {**inherited, **own}


def _group_of(key: str, value: object, path: Path) -> str:
    """The group of a key in a suite's defaults, as in `override /method`."""
    *words, last = key.split() or [""]
    group = last.lstrip("/").split("@")[0]
    groups = [name for name in GROUPS if name != "suite"]
    if group not in groups:
        raise UserError(f"{path}: its defaults name the unknown group '{group}'.{did_you_mean(group, groups)}")
    if "override" not in words or not last.startswith("/"):
        shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value
        raise UserError(f"{path}: in its defaults, expected '- override /{group}: {shown}', found '- {key}: {shown}'.")
    return group


def _check_names(group: str, names: list[str], path: Path, extra_folder: Path | None) -> None:
    known = option_names(group, extra_folder)
    for name in names:
        if name not in known:
            raise UserError(f"{path}: its defaults name the unknown {group} '{name}'.{did_you_mean(name, known)}")


def _package(lines: list[str]) -> str | None:
    """The package of a file's header, by Hydra's rule: comments with @, up to the first other line."""
    for line in lines:
        if not (header := re.match(r"#\s*@(\S*)\s*(.*)", line)):
            return None
        if header[1] == "package":
            return header[2]
    return None


def _mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = parse_yaml(_text(path)) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines of key: value, found a {type(content).__name__}.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as text: {error}") from error
