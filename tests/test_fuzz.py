"""A fuzzer at every reader and at the words of a question: thousands of inputs here, many more with `--soak`.

It is atheris, which is libFuzzer for Python: what reaches new lines of code is changed further.
"""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import PIECES, SEEDS, TARGETS, feed

FUZZ = Path(__file__).parent / "fuzz.py"
# The most memory that a process ever held is counted from that of the one that started it, here all of the tests: the
# shell between them is a small one.
OF_ITS_OWN = ["sh", "-c", '"$@"; exit $?', "sh"]
OPTIONS = ["-seed=1", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]


@pytest.fixture
def fuzz(tmp_path):
    pytest.importorskip(
        "atheris", reason="atheris is not installed; it is built for Linux on x86-64"
    )

    def run(target, runs):
        """What became of a target: the end of the fuzzer's report, and of a finding how it is repeated."""
        seeds, found, words = tmp_path / "seeds", tmp_path / "found", tmp_path / "words"
        seeds.mkdir()
        found.mkdir()
        for number, seed in enumerate(SEEDS.get(target, ["{"])):
            (seeds / str(number)).write_text(seed, encoding="utf-8")
        words.write_text("".join(f'"{in_hex(piece)}"\n' for piece in PIECES))
        options = [*OPTIONS, f"-runs={runs}", f"-dict={words}", f"-artifact_prefix={found}/"]
        ended = subprocess.run(
            [*OF_ITS_OWN, sys.executable, FUZZ, target, seeds, *options],
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
            timeout=600 + runs,  # so that nothing hangs for ever; each input has its own limit
        )
        told = [ended.stdout[-3000:], ended.stderr[-3000:]]
        for file in found.iterdir():
            told.append(f"{file}, in base64: {base64.b64encode(file.read_bytes()).decode()}")
            told.append(f"once more: {sys.executable} {FUZZ} {target} {file}")
        return ended.returncode, "\n".join(told)

    return run


def in_hex(piece):
    return "".join(f"\\x{byte:02x}" for byte in piece.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_what_the_fuzzer_goes_on_from_is_sound(target):
    for seed in SEEDS[target]:
        feed(target, seed.encode())


@pytest.mark.soak
@pytest.mark.parametrize("target", sorted(SEEDS))
def test_no_bytes_break_or_hang_it(fuzz, target, times):
    code, told = fuzz(target, times(1_000, 50_000))
    assert code == 0, told


def test_a_finding_is_told_so_that_it_can_be_repeated(fuzz):
    code, told = fuzz("canary", 100_000)
    assert "canary" in TARGETS
    assert code != 0
    finding = next(line for line in told.splitlines() if "in base64: " in line)
    assert b"}" in base64.b64decode(finding.partition("in base64: ")[2])
    assert "once more: " in told
