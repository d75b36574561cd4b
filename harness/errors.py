"""Errors caused by user input, and hints for fixing them."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

_SHOWN_KINDS = 3


class UserError(Exception):
    """A mistake in what the user gave (a name, a file, a value): shown without a traceback, exit code 2.

    The message says what was expected, what was found and what to do next.
    """


class TrialFailed(Exception):
    """A trial that can't give a result (for example its loss became NaN): recorded as failed, the others go on."""


class TrialInterrupted(Exception):
    """A trial that was asked to stop and kept its state: the same command goes on with it."""


class StopExpired(BaseException):
    """The time to stop in is over. No Exception: nothing on the way may take it for a failure of a trial's."""


def raise_stop_behind(error: BaseException) -> None:
    """Raises Ctrl-C, or the end of the time to stop in, where `error` comes of it.

    A library that is stopped in the middle of its work may trip over its own clean-up, and that error hides the stop:
    one in eight Ctrl-C that come while OmegaConf copies a configuration ends as a ConfigKeyError. Call it first where
    any Exception is caught.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()  # an error may come of one that came of it
    while left:
        behind = left.pop()
        if behind is None or id(behind) in seen:
            continue
        if isinstance(behind, KeyboardInterrupt | StopExpired):
            raise behind
        seen.add(id(behind))
        left += [behind.__cause__, behind.__context__]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest option, else the list of all.

    Returns:
        `" Did you mean 'unet'?"`, or `" Available: a, b, c."`; starts with a space.
    """
    known = sorted(set(map(str, options)))
    return near_name(name, known) or (f" Available: {', '.join(known)}." if known else "")


def near_name(name: str, options: Iterable[str]) -> str:
    """`" Did you mean 'unet'?"`, or nothing where no option is near."""
    near = difflib.get_close_matches(name, sorted(set(map(str, options))), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def counted(count: int, word: str) -> str:
    """ "1 trial", "1,200 trials"."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def some(names: Iterable[object], most: int = 3) -> str:
    """The first of them by name, the others by number: "a, b, c and 4 more"."""
    known = list(names)
    return ", ".join(map(str, known[:most])) + (f" and {len(known) - most:,} more" if len(known) > most else "")


def found_at(path: Path) -> str:
    """What is there, for the end of a message that says what was expected: "a file.", or "nothing. Did you mean 'masks'?"."""
    if path.exists():
        return "a folder." if path.is_dir() else "a file."
    beside = [entry.name for entry in path.absolute().parent.iterdir()] if path.absolute().parent.is_dir() else []
    return f"nothing.{near_name(path.name, beside)}"


def kinds_of(names: Iterable[str]) -> str:
    """What files there are, the commonest kind first: "12 files of .nii.gz, 1 of .txt (for example a/0.nii.gz)"."""
    known = sorted(names)
    kinds = Counter(
        "".join(PurePath(name.lower()).suffixes[-2 if name.lower().endswith(".gz") else -1 :]) for name in known
    )
    if not kinds:
        return "none"
    words = [f"{counted(count, 'file') if not place else f'{count:,}'} {f'of {kind}' if kind else 'without a suffix'}"
             for place, (kind, count) in enumerate(kinds.most_common())]  # fmt: skip
    more = f" and {len(words) - _SHOWN_KINDS} more kinds" if len(words) > _SHOWN_KINDS else ""
    return f"{', '.join(words[:_SHOWN_KINDS])}{more} (for example {known[0]})"


def described(error: BaseException) -> str:
    """An error of a method's own code in words that any file and terminal can hold: `ValueError: its text (mine.py, line 3)`."""
    text = str(error)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ... ({len(text)} characters)"
    return printable(f"{type(error).__name__}{f': {text}' if text else ''}{place(error)}")


LONGEST = 2000
"""An error's text is cut after so many characters; the traceback has them all."""


def printable(text: str) -> str:
    """`text` with escapes (`\\x1b`) for what is no text in UTF-8 or moves a terminal's cursor; lines and tabs stay."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def place(error: BaseException) -> str:
    """Where the method's own code raised or called what raised: " (my_method.py, line 12)"; "" where it did neither."""
    others = [str(Path(__file__).parent), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), "<"]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(tuple(others)):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""
