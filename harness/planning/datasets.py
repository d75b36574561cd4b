"""The images of a run: a folder of the user's, or phantoms drawn into the cache."""

from __future__ import annotations

from pathlib import Path

from harness.config import RunConfig
from harness.data.dataset import Dataset


def cache_folder(config: RunConfig) -> Path:
    """Where decoded arrays and phantoms are kept."""
    return Path(config.data.cache or Path(config.store.root) / "cache").expanduser().resolve()


def open_dataset(config: RunConfig) -> Dataset:
    """The images of the run: `data.root`, or phantoms drawn into the cache.

    Raises:
        UserError: the folder is missing, empty or faulty.
    """
    if config.data.root is not None:
        root = Path(config.data.root).expanduser().resolve()
    else:
        root = _phantom_root(config)
    return Dataset.open(root).select(config.data.modalities, config.data.max_per_domain)


def _phantom_root(config: RunConfig) -> Path:
    from harness.data.phantoms import GENERATOR_VERSION, write_phantoms

    phantoms = config.data.phantoms
    name = f"phantoms-v{GENERATOR_VERSION}-{phantoms.images_per_domain}x{phantoms.image_size}-seed{phantoms.seed}"
    root = cache_folder(config) / name
    if not (root / "manifest.csv").exists():
        write_phantoms(
            root,
            images_per_domain=phantoms.images_per_domain,
            image_size=phantoms.image_size,
            seed=phantoms.seed,
        )
    return root
