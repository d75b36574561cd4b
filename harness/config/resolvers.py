"""Files of other projects in a YAML: `${package_file:package,path}` and `${hub_file:repository,file}`.

They turn into a local path where the configuration is composed; only methods that take part in a run are looked up.
In a card `${encoder_title:...}` says which encoder it is; which weights it starts from: harness/config/encoder_weights.py.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from harness.errors import UserError

_OTHERWISE = "or give a local file in place of this setting"


def register_resolvers() -> None:
    """Makes all of them known to OmegaConf."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("package_file", package_file, replace=True)
    OmegaConf.register_new_resolver("hub_file", hub_file, replace=True)
    OmegaConf.register_new_resolver("encoder_title", encoder_title, replace=True)


def package_file(package: str, path: str) -> str:
    """A file that an installed package ships, found without importing the package.

    Args:
        package: the name that would be imported, at top level.
        path: below the package's folder.

    Raises:
        UserError: the package is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise UserError(
            f"Expected a file of the package '{package}', which is not installed: pip install {package.replace('_', '-')},"
            f" {_OTHERWISE}."
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    for folder in folders:
        if (folder / path).is_file():
            return str((folder / path).resolve())
    where = folders[0] if folders else spec.origin
    raise UserError(
        f"The package '{package}' ({where}) has no file {path}. Install another version of it, {_OTHERWISE}."
    )


def hub_file(repository: str, file: str) -> str:
    """A file of a Hugging Face repository: the local copy where there is one, else it is downloaded.

    Raises:
        UserError: huggingface_hub is not installed, or the file is neither here nor can be fetched.
    """
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise UserError(
            f"Expected huggingface_hub to fetch {file} of {repository}: pip install huggingface_hub, {_OTHERWISE}."
        ) from error
    try:
        kept = try_to_load_from_cache(repository, file)
        return kept if isinstance(kept, str) else str(hf_hub_download(repository, file))
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"Expected {file} of huggingface.co/{repository}: it is not in the local cache and could not be downloaded"
            f" ({first}). Check the name and the connection, {_OTHERWISE}."
        ) from error


def encoder_title(title: str, usual: str, name: str) -> str:
    """`title` for the encoder that is `usual`, any other by the name it was chosen by."""
    return title if name == usual else str(name).removeprefix("tu-")
