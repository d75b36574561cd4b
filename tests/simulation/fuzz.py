"""Damaged and hostile inputs through the real commands: `python -m tests.simulation.fuzz 2000`.

Each input is a sound data set, a folder of masks or a store, with one file spoilt. A command must end within `SECONDS`, without
a traceback, with at most `GROWTH` of memory more, and with 0 (what is spoilt does not matter to it, or is shown as damaged),
1 (some images failed) or 2 (refused); where it is not 0, its words name the file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.e2e.fork_server import load
from tests.support.containers import MASKS, NIFTI, png16, tiff

SECONDS = 10.0
GROWTH = 2**30
COMMANDS = ("verify", "plan", "evaluate", "predict", "report")
_TRAINED = ["method=otsu", "executor=serial", "training.image_size=32", "training.epochs=1", "efficiency_seconds=0.1"]


@dataclass(frozen=True)
class Outcome:
    """What one input came to; `fault` is empty where the command behaved."""

    number: int
    command: str
    file: str
    how: str
    code: int
    seconds: float
    growth: int
    fault: str
    words: str


def build(root: Path) -> None:
    """The sound inputs: `data`, `masks`, `images`, `runs`; where all that a run imports is imported."""
    generator = np.random.default_rng(0)
    names = (
        "png L 255",
        "tiff L tiff_lzw",
        "palette black, red",
        "gif",
        "bmp L",
        "webp lossless",
        "png 16 bits, 3 channels 1",
    )
    for domain in ("a", "b"):
        for number, name in enumerate(names):
            suffix, write = MASKS[name]
            mask = np.zeros((24, 24), bool)
            mask[3 : 8 + number, 4:15] = True
            folder = root / "data/xray" / domain
            for part in ("images", "masks"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            write(folder / "masks" / f"{number}.{suffix}", mask)
            picture = (generator.integers(0, 90, (24, 24, 3)) + 160 * mask[..., None]).astype(np.uint8)
            _save_image(folder / "images", number, picture)
            guess = root / "masks/xray" / domain
            guess.mkdir(parents=True, exist_ok=True)
            _save_guess(guess, number, mask)
    shutil.copytree(root / "data/xray/a/images", root / "images")
    (root / "about.yaml").write_text("card:\n  title: 'A tool'\n  pretrained_on: [ph2]\ncosts:\n  gmacs: 5.5\n")
    entry = "{method: M, modality: xray, domain: a, metric: dice, value: 0.9, source: S, page: '6'}"
    (root / "published.yaml").write_text(f"results:\n  - {entry}\n")
    words = ["run", "suite=domain_generalization", *_TRAINED, f"data.root={root}/data", f"store.root={root}/runs"]
    (root.parent / "build").mkdir()
    code, *_, printed = _in_child(words, root.parent / "build" / "x", seconds=300)
    assert code == 0, printed


def _save_image(folder: Path, number: int, picture: np.ndarray) -> None:
    writers: list[Callable[[], None]] = [
        lambda: Image.fromarray(picture).save(folder / f"{number}.png"),
        lambda: Image.fromarray(picture).save(folder / f"{number}.jpg", quality=95),
        lambda: Image.fromarray(picture).save(folder / f"{number}.tif", compression="tiff_lzw"),
        lambda: png16(folder / f"{number}.png", picture.astype(np.uint16) * 257),
        lambda: tiff("uint16", 60_000, "rgb")(folder / f"{number}.tif", picture[..., 0] / 300),
        lambda: Image.fromarray(picture).save(folder / f"{number}.webp"),
        lambda: Image.fromarray(picture).convert("CMYK").save(folder / f"{number}.jpg"),
    ]
    writers[number % len(writers)]()


def _save_guess(folder: Path, number: int, mask: np.ndarray) -> None:
    import scipy.io

    writers: list[Callable[[], None]] = [
        lambda: np.savez_compressed(folder / f"{number}.npz", mask=mask),
        lambda: np.save(folder / f"{number}.npy", mask),
        lambda: NIFTI["nifti uint8"](folder / f"{number}.nii.gz", mask),
        lambda: NIFTI["nifti float32"](folder / f"{number}.nii", mask),
        lambda: scipy.io.savemat(folder / f"{number}.mat", {"mask": mask.astype(np.uint8)}),
        lambda: Image.fromarray(mask).save(folder / f"{number}.tif", compression="group4"),
        lambda: Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}.jpg", quality=90),
    ]
    writers[number % len(writers)]()


def spoil(path: Path, chance: random.Random) -> tuple[Path, str]:
    """Spoils a file, and gives its path, which may have another suffix, and how."""
    content = bytearray(path.read_bytes())
    text = path.suffix in (".json", ".yaml", ".csv")
    ways = ["flip", "flip", "flip", "truncate", "suffix", "sizes", "random", "empty", "repeat", "huge number"]
    how = chance.choice([*ways, *(["word"] * 6 if text else [])])
    if how == "flip":
        for _ in range(chance.choice([1, 1, 3, 20])):
            content[chance.randrange(len(content))] = chance.randrange(256)
    elif how == "truncate":
        content = content[: chance.randrange(len(content))]
    elif how == "random":
        content = bytearray(chance.randbytes(chance.choice([1, 64, 4000])))
    elif how == "empty":
        content = bytearray()
    elif how == "repeat":
        content = content * chance.choice([2, 200])
    elif how == "sizes":  # numbers in a header: widths, counts, offsets
        for _ in range(chance.choice([1, 2, 4])):
            place = chance.randrange(min(len(content), 200))
            value = chance.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30_000])
            content[place : place + 4] = struct.pack(chance.choice("<>") + "I", value)
    elif how == "huge number":
        place = chance.randrange(len(content))
        content[place:place] = b"9" * 400
    elif how == "word":
        words = content.decode("utf-8", "replace").split(" ")
        new = [
            "null",
            "true",
            "-1",
            "1e999",
            "NaN",
            "[]",
            "{}",
            '"',
            "!!python/object:os.system",
            "&a [*a]",
            "\0",
            "${oc.env:HOME}",
            "é",
        ]
        words[chance.randrange(len(words))] = chance.choice(new)
        content = bytearray(" ".join(words).encode())
    path.write_bytes(content)
    if how == "suffix":
        other = path.with_suffix(
            chance.choice([".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".nii", ".npz", ".mat"])
        )
        if not other.exists():
            path = path.rename(other)
    return path, how


def words_of(command: str, root: Path) -> list[str]:
    data, store = f"data.root={root}/data", f"store.root={root}/runs"
    return {
        "verify": ["data", "verify", f"{root}/data", "--pictures", f"{root}/pictures"],
        "plan": ["plan", *_TRAINED, data, store],
        "evaluate": ["evaluate", f"predictions={root}/masks", "name=tool", f"about={root}/about.yaml", data, store],
        "predict": ["predict", "--method", "otsu", "--modality", "xray", "--store", f"{root}/runs", "--images", f"{root}/images", "--out", f"{root}/out"],
        "report": ["report", "--store", f"{root}/runs", "--published", f"{root}/published.yaml", "--out", f"{root}/report"],
    }[command]  # fmt: skip


def victims(command: str, root: Path) -> list[Path]:
    """The files that the command reads."""
    places = {
        "verify": ["data/**/*"], "plan": ["data/**/*"], "evaluate": ["masks/**/*", "masks/**/*", "about.yaml", "data/**/*"],
        "predict": ["images/**/*"], "report": ["runs/trials/**/*", "runs/suites/**/*", "published.yaml"],
    }[command]  # fmt: skip
    return [
        path
        for place in places
        for path in sorted(root.glob(place))
        if path.is_file() and not path.name.startswith(".") and "report" not in path.parts and path.suffix != ".lock"
    ]


def run_one(number: int, base: Path, seed: int) -> Outcome:
    chance = random.Random(f"{seed}/{number}")
    command = COMMANDS[number % len(COMMANDS)]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "x"
        shutil.copytree(base, root)
        if command in ("verify", "plan") and chance.random() < 0.5:
            (root / "data/manifest.csv").unlink()
        file, how = spoil(chance.choice(victims(command, root)), chance)
        code, seconds, growth, words = _in_child(words_of(command, root), root)
        if command == "predict" and code == 0:
            words += (root / "out/predictions.csv").read_text()
    place = file.with_suffix("").relative_to(root).as_posix()
    key = "/".join(part for part in place.split("/") if part not in ("data", "masks", "images"))
    named = any(name in words for name in (file.name, place, key))
    fault = (
        "a traceback" if "Traceback" in words
        else f"{seconds:.0f} s" if seconds > SECONDS
        else f"{growth / 2**20:.0f} MiB more" if growth > GROWTH
        else f"exit {code}" if code not in (0, 1, 2)
        else "the file is not named" if code and not named
        else ""
    )  # fmt: skip
    return Outcome(number, command, file.relative_to(root).as_posix(), how, code, seconds, growth, fault, words)


def _in_child(words: list[str], root: Path, seconds: float = 2 * SECONDS) -> tuple[int, float, int, str]:
    """Exit code, seconds, growth of memory in bytes, and what was said. A fork of a process that has imported everything."""
    log = root.parent / "log"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(words, root, log)
    status, usage = None, None
    while status is None:
        found, code, usage = os.wait4(child, os.WNOHANG)
        if found:
            status = code
        elif time.monotonic() - started > seconds:
            os.kill(child, signal.SIGKILL)
        else:
            time.sleep(0.01)
    assert usage is not None
    # All that the child ever touched, of the parent's memory too: more than it grew by.
    touched = usage.ru_maxrss * 1024
    return os.waitstatus_to_exitcode(status), time.monotonic() - started, touched, log.read_text("utf-8", "replace")


def _become(words: list[str], root: Path, log: Path) -> None:
    code = 99
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ["XDG_CACHE_HOME"] = str(root.parent / "cache")
        from harness.cli import main

        code = main(words)
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare() -> None:
    """Imports what the commands import: a fork then starts at once."""
    import nibabel  # noqa: F401
    import scipy.io  # noqa: F401
    import tifffile  # noqa: F401
    import torch

    import reports.build
    import reports.page.html  # noqa: F401
    from harness.data.validation import duplicates  # noqa: F401

    torch.set_num_threads(1)


def fuzz(inputs: int, seed: int, workers: int) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "inputs"
        base.mkdir()
        load()
        with multiprocessing.get_context("fork").Pool(workers, _prepare) as pool:
            pool.apply(build, (base,))
            outcomes = []
            for one in pool.imap(partial(run_one, base=base, seed=seed), range(inputs), chunksize=5):
                outcomes.append(one)
                if len(outcomes) % 100 == 0:
                    print(f"{len(outcomes)} of {inputs}", file=sys.stderr, flush=True)
            return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    outcomes = fuzz(args.inputs, args.seed, args.workers)
    for one in outcomes:
        if one.fault:
            print(f"{one.number} {one.command} {one.file} ({one.how}): {one.fault}\n    {one.words.strip()[-600:]}")
    codes = Counter(f"{one.command} {one.code}" for one in outcomes)
    slowest, largest = max(one.seconds for one in outcomes), max(one.growth for one in outcomes)
    print(json.dumps(dict(sorted(codes.items()))))
    faults = sum(bool(one.fault) for one in outcomes)
    print(f"{len(outcomes)} inputs, {faults} faults; slowest {slowest:.1f} s, most memory {largest / 2**20:.0f} MiB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
