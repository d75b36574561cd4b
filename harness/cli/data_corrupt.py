"""`data corrupt`: a copy of a dataset with corrupted images and the same masks."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """\
Writes a canonical dataset whose images are corrupted and whose masks are those of ROOT; each corruption and severity is a
domain of its own, such as busi+noise3. The same image, corruption, severity and seed give the same pixels.
Domains of one copy show the same patients: don't train on one and test on another.
To test methods on corrupted images without a copy, and without training again: protocol=corruptions.
`python -m harness list corruptions` shows all corruptions.
"""


def add_part(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `corrupt` to the parts of `data`."""
    parser = parts.add_parser(
        "corrupt",
        help="copy a dataset with noise, blur, hair, shadows ... of a given severity",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the copy")
    parser.add_argument(
        "--name", nargs="+", metavar="NAME", help="corruptions; default: all that occur in an image's modality"
    )
    parser.add_argument(
        "--severity", nargs="+", type=int, default=[3], choices=range(1, 6), metavar="N", help="1 to 5; default: 3"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="another seed draws other patterns")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.cli.common import progress_bar
    from harness.data.corruptions.dataset_copy import check_request, write_corrupted
    from harness.data.dataset import Dataset
    from harness.errors import counted

    check_request(args.out, args.name)
    with progress_bar("Corrupting") as progress:
        dataset = Dataset.open(args.root, progress=progress)
        severities = sorted(set(args.severity))
        written = write_corrupted(
            dataset.samples, args.out, names=args.name, severities=severities, seed=args.seed, progress=progress
        )
    domains = sorted({sample.domain_key for sample in written})
    print(
        f"{counted(len(written), 'corrupted image')} written to {args.out}, in {counted(len(domains), 'domain')}: {domains[0]} ..."
    )
    if left := {sample.modality for sample in dataset.samples} - {sample.modality for sample in written}:
        print(f"Left out, for none of these corruptions occurs there: {', '.join(sorted(left))}.")
    print(f"Examine them: python -m harness data verify {args.out}")
    return 0
