"""Train the entailment model, and write it to `rag/models/entailment_model`.

`python -m eval.training.entailment --start FILE [--epochs N] [--checkpoint FILE] [--output DIR]`

The entailment model says whether excerpts support a statement. It is a second network of the
reader's form: it reads the statement in place of the question and the excerpts in place of the
abstract, and what the reader calls `answers` is support. Training starts from a checkpoint of the
reader, `FILE`, and uses the claims of `eval.benchmarks.support_examples`, except those held out.

On two cores an epoch takes twenty minutes.
"""

import argparse
from pathlib import Path

from eval.benchmarks.support_examples import load_claims
from eval.training.reader import ReaderNetwork, export, load_network, tokenize, train
from rag.config import DEFAULT_EMBEDDER, cache_folder
from rag.models.files import find_embedder_folder
from rag.models.runtimes.openvino_reader import ENTAILMENT_FOLDER, ReaderTokenizer

_MAX_TOKENS = 320
_CALIBRATION_TEXTS = 200


def main() -> None:
    """Train, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, required=True, metavar="FILE")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, default=cache_folder() / "entailment.pt")
    parser.add_argument("--output", type=Path, default=ENTAILMENT_FOLDER)
    options = parser.parse_args()
    folder = find_embedder_folder(DEFAULT_EMBEDDER)
    tokenizer = ReaderTokenizer(folder / "tokenizer.json", _MAX_TOKENS)
    examples = []
    for example in load_claims():
        if not example.is_held_out and example.papers[0].sentences:
            examples.append(tokenize(example, tokenizer))
    print(f"{len(examples)} claims")
    network = ReaderNetwork(folder)
    load_network(network, options.start)
    train(network, examples, options.epochs, options.checkpoint)
    texts = [item.texts[0].tokens for item in examples[:_CALIBRATION_TEXTS]]
    export(network, texts, options.output, folder)


if __name__ == "__main__":
    main()
