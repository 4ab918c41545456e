"""Measure a language model: speed, memory, and agreement with exact weights.

`python -m eval.benchmarks.language_model [NAME…] [--runs N] [--reference]`

Each model runs in its own process, several times, in turn with the others. It gets prompts like
those of answers: numbered excerpts of the sample papers and a question. It first judges whether the
excerpts state the answer, then writes, with the same beginning of the prompt.

`--reference` also runs each GGUF model, the bundled one among them, in transformers, with the exact
weights of the file in float32. For the bundled one, that takes 11 GB of memory and 4 GB in the
cache. The table then says how far the log-odds of pairs of words lie apart, and how often the
likelier word is the same.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

from eval.benchmarks.collections import read_jsonl
from eval.benchmarks.common import curated_questions
from eval.benchmarks.tables import Columns, median_and_range
from rag.ingest.sample import sample_file
from rag.models.language_model import ChoiceModel, GenerationLimits, LanguageModel, Message
from rag.models.registry import BUNDLED_LANGUAGE_MODEL, load_language_model

_PROMPTS = 8
_PAPERS_PER_PROMPT = 2
_PAIRS = (("Yes", "No"), ("The", "In"), ("A", "We"), ("1", "2"))
_LIMITS = GenerationLimits(64, 600.0)
_SYSTEM = Message("system", "You answer a researcher's question from excerpts of abstracts.")
_JUDGE = "Do these excerpts state the answer to the question? Reply Yes or No."
_WRITE = "Answer the question in one or two sentences, with the number of the excerpt, like [2]."
_REFERENCE = "in transformers"


@dataclass(slots=True)
class Measurement:
    """Figures of one process: seconds, rates in tokens per second, and what the model replied."""

    load: float = 0.0
    judge: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    write: list[float] = field(default_factory=list)
    read_rate: list[float] = field(default_factory=list)
    write_rate: list[float] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    log_odds: list[float] = field(default_factory=list)
    gigabytes: float = 0.0


def measure(name: str, *, is_reference: bool) -> Measurement:
    """Load a model in this process and measure it; a slow reference only judges."""
    figures = Measurement()
    start = time.perf_counter()
    model = load_language_model(name)
    figures.load = time.perf_counter() - start
    if model is None:
        sys.exit("there is nothing to measure without a language model")
    for excerpts in build_prompts():
        _measure_judging(model, excerpts, figures)
        if not is_reference:
            _measure_writing(model, excerpts, figures)
    figures.gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return figures


def build_prompts() -> Iterator[str]:
    """Yield numbered excerpts of sample papers, each time of other ones, and a question."""
    papers = iter(read_jsonl(sample_file()))
    for question in islice(curated_questions(), _PROMPTS):
        abstracts = [str(paper["abstract"]) for paper in islice(papers, _PAPERS_PER_PROMPT)]
        numbered = [f"[{number}] {text}" for number, text in enumerate(abstracts, 1)]
        yield "\n".join([*numbered, "", f"Question: {question.question}"])


def _measure_judging(model: LanguageModel, excerpts: str, figures: Measurement) -> None:
    messages = [_SYSTEM, Message("user", f"{excerpts}\n{_JUDGE}")]
    tokens = model.count_tokens(messages)
    if not isinstance(model, ChoiceModel):
        return
    for pair in _PAIRS:
        start = time.perf_counter()
        chance = model.choice_probability(messages, pair, _LIMITS, threading.Event())
        seconds = time.perf_counter() - start
        if chance is None:
            return
        figures.log_odds.append(math.log(chance) - math.log1p(-chance))
        if pair == _PAIRS[0]:  # the others find the prompt read
            figures.judge.append(seconds)
            figures.read_rate.append(tokens / seconds)


def _measure_writing(model: LanguageModel, excerpts: str, figures: Measurement) -> None:
    messages = [_SYSTEM, Message("user", f"{excerpts}\n{_WRITE}")]
    start = time.perf_counter()
    pieces = []
    first = 0.0
    for piece in model.stream(messages, _LIMITS, threading.Event()):
        first = first or time.perf_counter() - start
        pieces.append(piece)
    seconds = time.perf_counter() - start
    reply = "".join(pieces)
    figures.replies.append(reply)
    figures.first.append(first)
    figures.write.append(seconds)
    empty = model.count_tokens([Message("assistant", "")])
    tokens = model.count_tokens([Message("assistant", reply)]) - empty
    figures.write_rate.append(tokens / max(seconds - first, 1e-9))


def run(name: str, *, is_reference: bool) -> Measurement:
    """Measure a model in a process of its own."""
    command = [sys.executable, "-m", "eval.benchmarks.language_model", "--measure", name]
    if is_reference:
        command.append("--reference")
    process = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, check=False
    )
    if process.returncode:
        sys.exit(f"cannot measure {name}:\n{process.stderr[-2000:]}")
    return Measurement(**json.loads(process.stdout.splitlines()[-1]))


def print_figures(name: str, runs: Sequence[Measurement]) -> None:
    """Print the figures of several runs of a model: medians of its prompts, and their range."""
    columns = Columns("<44", "<24")
    columns.print_row(name)
    rows = {
        "seconds to load": [each.load for each in runs],
        "seconds to judge": _medians(runs, "judge"),
        "tokens a second, read for that": _medians(runs, "read_rate"),
        "seconds to the first word written": _medians(runs, "first"),
        "seconds to write": _medians(runs, "write"),
        "tokens a second, written": _medians(runs, "write_rate"),
        "peak memory, GB": [each.gigabytes for each in runs],
    }
    for title, values in rows.items():
        if values:
            columns.print_row(f"  {title}", median_and_range(values))
    if not runs[0].replies:
        return
    is_same = all(each.replies == runs[0].replies for each in runs)
    columns.print_row("  the same replies in every run", "yes" if is_same else "no")


def _medians(runs: Sequence[Measurement], figure: str) -> list[float]:
    return [statistics.median(getattr(each, figure)) for each in runs if getattr(each, figure)]


def print_agreement(name: str, model: Measurement, reference: Measurement) -> None:
    """Print how far the log-odds of a model and of its reference lie apart."""
    pairs = list(zip(model.log_odds, reference.log_odds, strict=True))
    distances = [abs(one - other) for one, other in pairs]
    same = sum((one > 0) == (other > 0) for one, other in pairs)
    print(
        f"{name}: log-odds {statistics.mean(distances):.3f} nats apart on average, "
        f"{max(distances):.3f} at most; the likelier word is the same in {same} of {len(pairs)}"
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[BUNDLED_LANGUAGE_MODEL], metavar="NAME")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--reference", action="store_true", help="compare with transformers")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        if options.reference:  # a GGUF file then runs in transformers
            sys.modules["openvino_genai"] = None  # type: ignore[assignment]
        figures = measure(options.names[0], is_reference=options.reference)
        print(json.dumps(asdict(figures)))
        return
    runs = defaultdict(list)
    for _ in range(options.runs):
        for name in options.names:
            runs[name].append(run(name, is_reference=False))
    for name in options.names:
        print_figures(name, runs[name])
        if options.reference:
            reference = run(name, is_reference=True)
            print_figures(f"{name} {_REFERENCE}", [reference])
            print_agreement(name, runs[name][0], reference)


if __name__ == "__main__":
    main()
