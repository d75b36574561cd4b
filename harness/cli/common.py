"""What commands that take a configuration share."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.errors import UserError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="for example suite=domain_generalization method=[unet,otsu] training=quick data.root=/data",
    )
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a folder of your own YAML files, laid out as suites/ (method/mine.yaml)",
    )


def config_folder_argument(args: argparse.Namespace) -> Path | None:
    """The checked `--config-dir`.

    Raises:
        UserError: it is no folder.
    """
    folder: Path | None = args.config_dir
    if folder is not None and not folder.is_dir():
        raise UserError(f"--config-dir {folder} is no folder.")
    return folder
