"""A method whose training and prediction are commands: a trainer that lives outside the bench.

Its `method/<name>.yaml` has `trainer:` in place of `model:`:

    trainer:
      train: ["{python}", my_trainer.py, train]      # each a list of words; {python} is the Python that runs the bench,
      predict: ["{python}", my_trainer.py, predict]  # {work} the work folder
      timeout_hours: 24                              # of each call of a command; no part of the ids
      settings: [epochs, batch_size, image_size]     # the settings of `training:` that it follows
      package: nnunetv2                              # where it is a Python package: must be installed, its version counts
      install: "pip install 'delightsam-bench[nnunet]'"

The folder that the commands work in is described in docs/guides/external_trainer.md, and written by harness/external_trainers.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from harness.config.schema import TrainingConfig
from harness.config.validation import Checked, Expected, OneOf
from harness.errors import UserError

# Part of the ids. Raised when the same commands would be given other files or settings.
CONTRACT_VERSION = 1
USUAL_SETTINGS = ("epochs", "batch_size", "image_size")
Words = tuple[Annotated[str, Expected("a text", min_length=1)], ...]


@dataclass(frozen=True)
class TrainerFile(Checked):
    """The commands of a trainer, as its YAML gives them.

    Attributes:
        train, predict: words, with their placeholders.
        settings: names of the fields of `TrainingConfig` that it is given; only these are in the ids.
        package: the Python distribution that does the work; None where it is no package of this environment.
        install: the command that installs it, for a message.
    """

    train: Annotated[Words, Expected("a command as a list of words", '["{python}",my_trainer.py,train]', min_length=1)]
    predict: Annotated[
        Words, Expected("a command as a list of words", '["{python}",my_trainer.py,predict]', min_length=1)
    ]
    timeout_hours: Annotated[float, Expected("a number above 0", "24", gt=0, strict=True)] = 24.0
    settings: tuple[Annotated[str, OneOf(*(item.name for item in fields(TrainingConfig)))], ...] = USUAL_SETTINGS
    package: str | None = None
    install: str | None = None


@dataclass(frozen=True)
class Trainer(TrainerFile):
    """The commands of a trainer, as a trial keeps them.

    Attributes:
        package_version: the version that is installed; None where there is none.
    """

    package_version: str | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trainer:
        """Reads what `to_json` wrote."""
        lists = {key: tuple(map(str, content[key])) for key in ("train", "predict", "settings") if key in content}
        return cls(**{**content, **lists})

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def training_identity(self) -> dict[str, Any]:
        """What of it decides on the trained model."""
        return {
            "contract": CONTRACT_VERSION,
            "train": list(self.train),
            "package": [self.package, self.package_version],
        }

    def given(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Of the training settings those that it follows."""
        return {name: training[name] for name in sorted(self.settings)}


def trainer_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A checked `trainer:` as a trial spec keeps it, with the version of its package as it is installed here."""
    made = Trainer.from_json(config)
    return Trainer.from_json({**made.to_json(), "package_version": _installed(made.package)}).to_json()


def check_usable(name: str, trainer: Trainer) -> None:
    """Whether the commands can be started here; runs none.

    Raises:
        UserError: the package is not installed or another version than planned, no such program or script.
    """
    if trainer.package is not None and (found := _installed(trainer.package)) != trainer.package_version:
        raise UserError(
            f"Method '{name}': expected {trainer.package} {trainer.package_version}, as it was planned, found {found or 'none'}."
            " Run the command again where all nodes have the same version."
        )
    if trainer.package is not None and trainer.package_version is None:
        hint = trainer.install or f"pip install {trainer.package}"
        raise UserError(
            f"Method '{name}' needs the package {trainer.package}, which is not installed. Install it: {hint}"
        )
    for command in (trainer.train, trainer.predict):
        program, script = command[0], command[1] if len(command) > 1 else ""
        if program != "{python}" and shutil.which(program) is None:
            raise UserError(
                f"Method '{name}': there is no program '{program}', with which its command begins: {' '.join(command)}"
            )
        if script.endswith(".py") and "{" not in script and not Path(script).is_file():
            raise UserError(
                f"Method '{name}': its command names {script}, and {Path.cwd()} has no such file. Start the run where it"
                " is, or give its whole path."
            )


def expanded(command: Sequence[str], work: Path) -> list[str]:
    """The words of a command with the placeholders filled in."""
    return [word.replace("{python}", sys.executable).replace("{work}", str(work)) for word in command]


def _installed(package: str | None) -> str | None:
    try:
        return None if package is None else importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
