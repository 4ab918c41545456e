"""Train the reader, and write it to `rag/models/reader_model`.

`python -m eval.training.reader [--epochs N] [--every N] [--checkpoint FILE] [--output DIR]`

The reader (`rag.models.reader`) starts from the bundled embedding model, all-MiniLM-L6-v2, and is
trained on the examples of `eval.benchmarks.reading_examples`, except those held out. The losses say
whether each sentence answers and whether the abstract does (binary cross-entropy), which sentences
of all papers of a question answer, and which paper it is about (softmax within the question).

On two cores an epoch takes three quarters of an hour. A run that was interrupted goes on from its
checkpoint. The result is quantized to 8 bits.
"""

import argparse
import json
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import AutoModel

from eval.benchmarks.reading_examples import Example, load_examples
from rag.config import DEFAULT_EMBEDDER, cache_folder
from rag.models.files import find_embedder_folder
from rag.models.reader import ReaderInput
from rag.models.runtimes.openvino_encoder import TokenIds, input_names, model_inputs
from rag.models.runtimes.openvino_offline import nncf, openvino
from rag.models.runtimes.openvino_reader import (
    ANSWERS,
    FURTHER_OUTPUTS,
    MODEL_FOLDER,
    RELEVANCE,
    SENTENCE,
    ReaderScales,
    ReaderText,
    ReaderTokenizer,
)

_SEED = 1
_LEARNING_RATE = 5e-5
_LEARNING_RATE_OF_SCORES = 1e-2
# In the scale at which sentence-transformers trains cosines.
_FIRST_SCALES = ReaderScales(sentence=20.0, abstract=20.0, best_cosine=10.0, best_sentence=0.5)
_FIRST_SHIFTS = (-12.0, 0.0, 0.0)
_WARM_UP = 0.1
_TOKENS_PER_STEP = 3_000
# Shorter than what the reader reads, because long abstracts are rare and slow.
_MAX_TOKENS = 320
# Examples of similar length are batched within groups of this many.
_SORTED_TOGETHER = 256
_SECONDS_BETWEEN_CHECKPOINTS = 240
_CALIBRATION_TEXTS = 200
_LOSS_WEIGHTS = {"sentence": 1.0, "sentences": 0.5, "answers": 0.5, "paper": 0.5}


class ReaderNetwork(torch.nn.Module):
    """Encoder with the outputs of `openvino_reader`, and the factors of its scores."""

    def __init__(self, folder: Path) -> None:
        """Start from the weights in a folder; scores start as cosines."""
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            folder,
            add_pooling_layer=False,
            attention_probs_dropout_prob=0.0,  # a quarter of the time, and the fast attention
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        self.dropout = torch.nn.Dropout(0.1)
        self.further = torch.nn.Linear(self.encoder.config.hidden_size, FURTHER_OUTPUTS)
        torch.nn.init.zeros_(self.further.weight)
        self.further.bias.data = torch.tensor(_FIRST_SHIFTS)
        self.scales = torch.nn.ParameterDict()
        for name, value in asdict(_FIRST_SCALES).items():
            self.scales[name] = torch.nn.Parameter(torch.tensor(value))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Return the outputs at each token, (batch, tokens, width + 3)."""
        is_abstract = token_type_ids.bool()
        # The question (type 0) does not see the abstract, so that its mean vector stays its own.
        sees = is_abstract[:, None, :, None] | ~is_abstract[:, None, None, :]
        mask = sees & attention_mask.bool()[:, None, None, :]
        vectors = self.encoder(
            input_ids=input_ids, attention_mask=mask, token_type_ids=token_type_ids
        ).last_hidden_state
        return torch.cat([vectors, self.further(self.dropout(vectors))], dim=-1)

    def score(
        self, text: ReaderText, output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return relevance, answers and sentences as `openvino_reader.score` does."""
        vectors, further = output[:, :-FURTHER_OUTPUTS], output[:, -FURTHER_OUTPUTS:]
        question = vectors[text.question].mean(0)
        whole = further[text.abstract].mean(0)
        means = torch.stack([vectors[sentence].mean(0) for sentence in text.sentences])
        shifts = [further[sentence, SENTENCE].mean() for sentence in text.sentences]
        cosines = functional.cosine_similarity(means, question[None])
        sentences = self.scales["sentence"] * cosines + torch.stack(shifts)
        of_abstract = functional.cosine_similarity(vectors[text.abstract].mean(0), question, dim=0)
        relevance = self.scales["abstract"] * of_abstract + whole[RELEVANCE]
        relevance = relevance + self.scales["best_cosine"] * cosines.max()
        answers = self.scales["best_sentence"] * sentences.max() + whole[ANSWERS]
        return relevance, answers, sentences


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """Example with the text of each of its papers."""

    example: Example
    texts: tuple[ReaderText, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, map(attrgetter("tokens.ids"), self.texts)))

    @property
    def cost(self) -> int:
        """Tokens with padding."""
        return self.longest * len(self.texts)


def tokenize(example: Example, tokenizer: ReaderTokenizer) -> TokenizedExample:
    """Tokenize an example; what does not fit into one text is left out."""
    texts = []
    for paper in example.papers:
        abstract = ReaderInput(paper.title, paper.sentences)
        texts.append(next(tokenizer.split(example.question, abstract)))
    return TokenizedExample(example, tuple(texts))


_COST = attrgetter("cost")


def batch_examples(
    examples: Sequence[TokenizedExample], chance: random.Random
) -> list[list[TokenizedExample]]:
    """Return all examples once, in random batches of similar length."""
    shuffled = chance.sample(examples, len(examples))
    batches: list[list[TokenizedExample]] = []
    for start in range(0, len(shuffled), _SORTED_TOGETHER):
        group = sorted(shuffled[start : start + _SORTED_TOGETHER], key=lambda item: item.longest)
        batch: list[TokenizedExample] = []
        for item in group:
            if batch and sum(map(_COST, batch)) + item.cost > _TOKENS_PER_STEP:
                batches.append(batch)
                batch = []
            batch.append(item)
        batches.append(batch)
    chance.shuffle(batches)
    return batches


# --- losses --------------------------------------------------------------------------------------


def compute_losses(
    network: ReaderNetwork, batch: Sequence[TokenizedExample], outputs: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the mean of each loss over a batch; `outputs` are (texts, tokens, width + 3)."""
    losses = defaultdict[str, list[torch.Tensor]](list)
    row = 0
    for item in batch:
        scores = []
        for text, output in zip(item.texts, outputs[row : row + len(item.texts)], strict=True):
            scores.append(network.score(text, output))
        row += len(item.texts)
        for name, loss in _example_losses(item, scores):
            losses[name].append(loss)
    return {name: torch.stack(values).mean() for name, values in losses.items()}


def _example_losses(
    item: TokenizedExample, scores: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    papers = item.example.papers
    relevance, answers, sentences = zip(*scores, strict=True)
    does_answer = torch.tensor(list(map(attrgetter("answers"), papers)), dtype=torch.float32)
    cross_entropy = functional.binary_cross_entropy_with_logits
    yield "answers", cross_entropy(torch.stack(answers), does_answer)
    if len(papers) > 1:  # the question is about the first one
        yield "paper", functional.cross_entropy(torch.stack(relevance), torch.tensor(0))
    labels: list[float] = []
    for paper, of_paper in zip(papers, sentences, strict=True):
        labels += paper.labels[: len(of_paper)]
    if not labels:
        return
    all_scores, all_labels = torch.cat(sentences), torch.tensor(labels, dtype=torch.float32)
    yield "sentence", cross_entropy(all_scores, all_labels)
    if all_labels.any() and len(all_labels) > 1:
        log_shares = torch.log_softmax(all_scores, 0)
        yield "sentences", -(log_shares * all_labels).sum() / all_labels.sum()


# --- training ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Training:
    """State of a training that can be saved and resumed."""

    network: ReaderNetwork
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    steps: int = 0

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.network, self.optimizer, self.schedule

    @classmethod
    def start(cls, network: ReaderNetwork, total_steps: int) -> "Training":
        """Warm up for a tenth of the steps, then decay linearly."""
        warm_up = max(1, int(_WARM_UP * total_steps))

        def rate(step: int) -> float:
            return min((step + 1) / warm_up, (total_steps - step) / (total_steps - warm_up + 1))

        of_scores = [*network.further.parameters(), *network.scales.values()]
        groups: list[dict[str, Any]] = [
            {"params": list(network.encoder.parameters())},
            {"params": of_scores, "lr": _LEARNING_RATE_OF_SCORES},
        ]
        optimizer = torch.optim.AdamW(groups, _LEARNING_RATE, weight_decay=0.01)
        return cls(network, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate))

    def step(self, batch: Sequence[TokenizedExample]) -> dict[str, float]:
        """Learn from a batch, and return its losses."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = self.network(**_to_tensors(batch)).float()
        losses = compute_losses(self.network, batch, outputs)
        total = torch.zeros(())
        for name, loss in losses.items():
            total = total + _LOSS_WEIGHTS[name] * loss
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.steps += 1
        return {name: loss.item() for name, loss in losses.items()}

    def save(self, file: Path) -> None:
        """Save to a file, at once or not at all."""
        states: list[Any] = [self.steps]
        for part in self._parts:
            states.append(part.state_dict())
        scratch = file.with_suffix(".part")
        torch.save(states, scratch)
        scratch.replace(file)

    def resume(self, file: Path) -> None:
        """Go on from a saved state."""
        self.steps, *states = torch.load(file, weights_only=True)
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _to_tensors(batch: Sequence[TokenizedExample]) -> dict[str, torch.Tensor]:
    rows: list[TokenIds] = []
    for item in batch:
        rows += map(attrgetter("tokens"), item.texts)
    names = {"input_ids", "attention_mask", "token_type_ids"}
    inputs: Mapping[str, Any] = model_inputs(rows, names)
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def train(
    network: ReaderNetwork, examples: Sequence[TokenizedExample], epochs: int, checkpoint: Path
) -> ReaderNetwork:
    """Train a network, and return it; a checkpoint that is there is resumed."""
    torch.manual_seed(_SEED)
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    batches: list[list[TokenizedExample]] = []
    for _ in range(epochs):
        batches += batch_examples(examples, chance)
    training = Training.start(network.train(), len(batches))
    if checkpoint.exists():
        training.resume(checkpoint)
    saved = time.monotonic()
    progress = tqdm(batches[training.steps :], initial=training.steps, total=len(batches))
    for batch in progress:
        losses = training.step(batch)
        progress.set_postfix({name: round(value, 2) for name, value in losses.items()})
        if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            training.save(checkpoint)
            saved = time.monotonic()
    training.save(checkpoint)
    return network.eval()


def load_network(network: ReaderNetwork, checkpoint: Path) -> None:
    """Set the weights of a network to those in a checkpoint."""
    _, weights, *_ = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(weights)


# --- export --------------------------------------------------------------------------------------


def export(network: ReaderNetwork, texts: Sequence[TokenIds], target: Path, start: Path) -> None:
    """Quantize a network to 8 bits, calibrated with texts, and write it to a folder.

    Its tokenizer is that of the folder `start`.
    """
    target.mkdir(parents=True, exist_ok=True)
    ones = torch.ones(2, 8, dtype=torch.long)
    example = {"input_ids": ones, "attention_mask": ones, "token_type_ids": torch.zeros_like(ones)}
    converted = openvino.convert_model(network, example_input=example)
    inputs = [model_inputs([text], input_names(converted)) for text in texts]
    quantized = nncf().quantize(
        converted,
        nncf().Dataset(inputs),
        model_type=nncf().ModelType.TRANSFORMER,
        subset_size=len(inputs),
    )
    openvino.save_model(quantized, target / "model.xml")
    scales = {name: round(value.item(), 4) for name, value in network.scales.items()}
    (target / "scales.json").write_text(json.dumps(scales, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(start / "tokenizer.json", target / "tokenizer.json")


def main() -> None:
    """Train, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use each Nth example")
    parser.add_argument("--checkpoint", type=Path, default=cache_folder() / "reader.pt")
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER)
    options = parser.parse_args()
    start = find_embedder_folder(DEFAULT_EMBEDDER)
    tokenizer = ReaderTokenizer(start / "tokenizer.json", _MAX_TOKENS)
    examples = []
    for example in load_examples():
        if not example.is_held_out:
            examples.append(tokenize(example, tokenizer))
    examples = examples[:: options.every]
    print(f"{len(examples)} examples")
    network = train(ReaderNetwork(start), examples, options.epochs, options.checkpoint)
    texts = [item.texts[0].tokens for item in examples[:_CALIBRATION_TEXTS]]
    export(network, texts, options.output, start)


if __name__ == "__main__":
    main()
