"""What counts as slower; and, marked `performance`, that real slow-downs are caught and named and nothing else is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.performance import perf_compare
from tests.performance.benchmarks import BENCHMARKS
from tests.performance.perf_compare import Comparison, judged, main, print_outcome
from tests.performance.perf_history import main as draw_history

ROOT = Path(__file__).parents[2]


def simulated(factor: float, pairs: int, noise: float = 0.05, seed: int = 0) -> Comparison:
    """Times whose processes differ by up to 3 % by themselves, and their turns by `noise`."""
    draw = random.Random(seed)
    return Comparison(
        tuple(
            tuple((draw.lognormvariate(0, noise), factor * luck * draw.lognormvariate(0, noise)) for _ in range(9))
            for luck in (draw.uniform(0.97, 1.03) for _ in range(pairs))
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_fifth_slower_is_seen_and_noise_is_not(seed: int) -> None:
    assert simulated(1.2, 3, seed=seed).is_slower
    assert not simulated(1.0, 3, seed=seed).is_slower
    assert not simulated(0.5, 3, seed=seed).is_slower


def test_one_unlucky_pair_of_processes_is_no_slow_down() -> None:
    slow, fast = ((1.0, 1.3),) * 9, ((1.0, 1.0),) * 9
    assert not Comparison((slow, slow, fast)).is_slower
    assert Comparison((slow, slow, slow)).is_slower


def test_what_seems_slower_is_measured_again() -> None:
    asked: list[int] = []

    def once_slow(pairs: int) -> Comparison:
        asked.append(pairs)
        return Comparison((((1.0, 1.3 if len(asked) == 1 else 1.0),),) * pairs)

    assert not judged(once_slow).is_slower
    assert asked == [perf_compare.PAIRS, perf_compare.CONFIRMING_PAIRS]


@pytest.mark.parametrize(
    ("slower", "missing", "shared", "status", "said"),
    [
        ([], [], ["a"], 0, "Nothing is slower"),
        (["a"], [], ["a"], 1, "a is slower than in main"),
        ([], ["b"], ["a"], 1, "b is a benchmark of main and is missing here"),
        ([], [], [], 1, "Nothing was compared"),
    ],
)
def test_outcomes(
    slower: list[str],
    missing: list[str],
    shared: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert print_outcome("main", slower, missing, shared) == status
    assert said in capsys.readouterr().out


def test_an_unknown_revision_is_named() -> None:
    with pytest.raises(SystemExit, match="found 'no-such-revision'"):
        main(["--base", "no-such-revision"])


def test_the_history_shows_each_run(tmp_path: Path) -> None:
    for number, (brand, median) in enumerate([("A", 0.2), ("B", 9.0), ("A", 0.1)]):
        run = {
            "machine_info": {"node": "n", "cpu": {"brand_raw": brand}},
            "commit_info": {"id": f"{number}" * 40, "dirty": number == 2},
            "benchmarks": [{"name": "test_speed[decoding]", "param": "decoding", "stats": {"median": median}}],
        }
        (tmp_path / f"{number}.json").write_text(json.dumps(run), "utf-8")
    page = draw_history(tmp_path).read_text("utf-8")
    # Times of another machine say nothing.
    assert "Medians of 2 runs" in page and page.count("<circle") == 2
    assert "22222222+: 100.0 ms" in page and "<td>x 0.50<td>x 1.00" in page


# --- with real slow-downs ------------------------------------------------------------------------------------------------

SLOW_DOWNS = {
    "a sleep in the step": (
        "harness/training/steps.py",
        "    trainer.scaler.unscale_(trainer.optimizer)\n",
        "    __import__('time').sleep(0.003)\n    trainer.scaler.unscale_(trainer.optimizer)\n",
        "training_epoch",
    ),
    "a double decode": (
        "harness/data/batches/array_cache.py",
        "    image, mask = read_image(sample.image, sample.white_level), read_mask(sample.mask)\n",
        "    read_image(sample.image, sample.white_level)\n"
        "    image, mask = read_image(sample.image, sample.white_level), read_mask(sample.mask)\n",
        "decoding",
    ),
    "a Python loop in HD95": (
        "harness/metrics/surface.py",
        "np.percentile(self.pooled, 95)",
        "sorted(float(distance) for distance in self.pooled)[int(0.95 * self.pooled.size)]",
        "metrics_of_vessels",
    ),
    "a quadratic report": (
        "reports/build.py",
        "    figures = draw_figures(",
        "    keys = records.samples['key'].tolist()\n"
        "    assert [keys.count(key) for key in keys]\n"
        "    figures = draw_figures(",
        "report",
    ),
    "an extra encoder pass": (
        "delightsam/modeling/model.py",
        "        return self.encoder(images.contiguous(memory_format=torch.channels_last), controllers)\n",
        "        self.encoder(images.contiguous(memory_format=torch.channels_last), controllers)\n"
        "        return self.encoder(images.contiguous(memory_format=torch.channels_last), controllers)\n",
        "forward_of_delightsam",
    ),
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


def compare(clone: Path, *names: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "tests/performance/perf_compare.py", "--base", "HEAD", "--only", *names]
    return subprocess.run(words, cwd=clone, capture_output=True, text=True)


@pytest.mark.performance
@pytest.mark.parametrize("kind", SLOW_DOWNS)
def test_a_slow_down_is_caught_and_named(kind: str, clone: Path) -> None:
    file, old, new, name = SLOW_DOWNS[kind]
    text = (clone / file).read_text("utf-8")
    assert text.count(old) == 1
    (clone / file).write_text(text.replace(old, new), "utf-8")
    done = compare(clone, name, "paired_statistics")
    print(done.stdout, done.stderr)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "is slower" in line] == [f"{name} is slower than in HEAD."]


@pytest.mark.performance
def test_a_renamed_benchmark_fails(clone: Path) -> None:
    file = clone / perf_compare.FILE
    file.write_text(file.read_text("utf-8").replace("def decoding(", "def decoding_images("), "utf-8")
    done = compare(clone, "decoding", "decoding_images")
    assert done.returncode == 1 and "decoding is a benchmark of HEAD and is missing here" in done.stdout


@pytest.mark.performance
def test_a_revision_is_as_fast_as_itself(clone: Path) -> None:
    done = compare(clone, *BENCHMARKS)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
