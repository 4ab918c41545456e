"""Fuzzing of every parser and of other untrusted input, for much longer with `--soak`.

The fuzzer is atheris, libFuzzer for Python. It continues from inputs that reach new lines of code.
"""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import PIECES, SEEDS, TARGETS, run_target

from rag.ingest.sources.registry import FORMATS

FUZZ = Path(__file__).parent / "fuzz.py"
# A process inherits the peak memory of its parent, which here runs all the tests. The shell between
# them is small.
SMALL_PARENT = ["sh", "-c", '"$@"; exit $?', "sh"]
OPTIONS = ["-seed=1", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]


@pytest.fixture
def fuzz(tmp_path):
    pytest.importorskip(
        "atheris", reason="atheris is not installed; it is built for Linux on x86-64"
    )

    def run(target, runs):
        """Return exit code and report, with failing inputs and the command to repeat them."""
        seeds, failures = tmp_path / "seeds", tmp_path / "failures"
        dictionary = tmp_path / "dictionary"
        seeds.mkdir()
        failures.mkdir()
        for number, seed in enumerate(SEEDS.get(target, ["{"])):
            (seeds / str(number)).write_text(seed, encoding="utf-8")
        dictionary.write_text("".join(f'"{to_hex(piece)}"\n' for piece in PIECES))
        options = [
            *OPTIONS,
            f"-runs={runs}",
            f"-dict={dictionary}",
            f"-artifact_prefix={failures}/",
        ]
        process = subprocess.run(
            [*SMALL_PARENT, sys.executable, FUZZ, target, seeds, *options],
            env=os.environ
            | {
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": os.pathsep.join(map(str, [FUZZ.parent.parent])),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=600 + runs,  # each input has its own limit, too
        )
        lines = [process.stdout[-3000:], process.stderr[-3000:]]
        for file in failures.iterdir():
            lines.append(f"{file}, in base64: {base64.b64encode(file.read_bytes()).decode()}")
            lines.append(f"repeat with: {sys.executable} {FUZZ} {target} {file}")
        return process.returncode, "\n".join(lines)

    return run


def to_hex(piece):
    return "".join(f"\\x{byte:02x}" for byte in piece.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_seeds_pass(target):
    for seed in SEEDS[target]:
        run_target(target, seed.encode())


@pytest.mark.soak
@pytest.mark.parametrize("target", sorted(SEEDS))
def test_no_input_crashes_or_hangs(fuzz, target, times):
    runs = times(0 if target in FORMATS else 400, 50_000)
    if not runs:
        pytest.skip("fuzzed by itself with --soak; every format is part of the target `any`")
    code, report = fuzz(target, runs)
    assert code == 0, report


def test_failure_is_reported_with_the_input_to_repeat_it(fuzz):
    code, report = fuzz("canary", 100_000)
    assert "canary" in TARGETS
    assert code != 0
    failure = next(line for line in report.splitlines() if "in base64: " in line)
    assert b"}" in base64.b64decode(failure.partition("in base64: ")[2])
    assert "repeat with: " in report
