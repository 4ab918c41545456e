"""Embedding models in OpenVINO: encoders with mean pooling, fast on a CPU and without PyTorch.

The first use converts the weights with PyTorch and transformers, which takes about 20 seconds, and
keeps the result in the user's cache. Later starts load it from there.
"""

import json
from collections import ChainMap
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from rag.ingest.sample import sample_file
from rag.models.embedder import PassageInput
from rag.models.files import convert_once, fingerprint_folder, read_json
from rag.models.runtimes.openvino_encoder import (
    OpenVinoEncoder,
    TokenIds,
    input_names,
    model_inputs,
)
from rag.models.runtimes.openvino_offline import nncf, openvino
from rag.models.vectors import Vectors, normalize

_BATCH_SIZE = 8
_DEFAULT_MAX_TOKENS = 512
# Part of the cached folder's name because the result may change with the converter's version.
_CONVERSION = f"openvino-{openvino.__version__.split('-')[0]}-int8"
# Minimum mean cosine between the vectors before and after quantization. The default model has
# 0.997, and its nDCG@10 on four collections changes by at most 0.002 (`eval/LOG.md`).
_MIN_SIMILARITY = 0.99
_CALIBRATION_TOKENS = 256


def open_embedder(name: str, folder: Path) -> "OpenVinoEmbedder":
    """Load the embedding model in a folder, converting it on first use."""
    return OpenVinoEmbedder(name, folder, fingerprint_folder(folder))


class OpenVinoEmbedder:
    """Embedder that computes sentence vectors from the passage's tokens. Thread-safe."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.max_tokens = _read_max_tokens(folder)
        self._tokenizer = _load_tokenizer(folder, self.max_tokens)
        self._counter = _load_tokenizer(folder, max_tokens=None)
        self._encoder = OpenVinoEncoder(_converted_model(name, folder, fingerprint))
        self.dimension = self._encoder.width

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without special tokens."""
        encodings = self._counter.encode_batch(list(texts), add_special_tokens=False)
        return list(map(_length, encodings))

    def embed_question(self, question: str) -> Vectors:
        """Return the unit vector of a question, (dimension,)."""
        (tokens,) = self._embed_tokens([self._tokenizer.encode(question)])
        return normalize(tokens.mean(axis=0))

    def embed_passages(self, passages: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """Return the unit vector of each passage and those of its sentences.

        Passages of similar length share a batch.
        """
        encodings = self._tokenizer.encode_batch([passage.text_with_title for passage in passages])
        lengths = list(map(_length, encodings))
        by_length = sorted(range(len(passages)), key=lengths.__getitem__)
        starts = range(0, len(passages), _BATCH_SIZE)
        batches = [by_length[start : start + _BATCH_SIZE] for start in starts]

        def embed(batch: Sequence[int]) -> dict[int, tuple[Vectors, Vectors]]:
            token_vectors = self._embed_tokens([encodings[index] for index in batch])
            vectors = {}
            for index, tokens in zip(batch, token_vectors, strict=True):
                vectors[index] = _pool_passage(passages[index], tokens, encodings[index])
            return vectors

        # Long batches go first, so no core is left with a long one at the end.
        with ThreadPoolExecutor(self._encoder.request_count) as pool:
            vectors = dict(ChainMap(*pool.map(embed, reversed(batches))))
        return [vectors[index] for index in range(len(passages))]

    def _embed_tokens(self, encodings: Sequence[Encoding]) -> list[Vectors]:
        """Return the vectors of each text's tokens, (tokens, dimension), in one batch."""
        return self._encoder.encode(list(map(_token_ids, encodings)))


def _read_max_tokens(folder: Path) -> int:
    settings = read_json(folder / "sentence_bert_config.json")
    if not isinstance(settings, dict):
        return _DEFAULT_MAX_TOKENS
    return int(settings.get("max_seq_length") or _DEFAULT_MAX_TOKENS)


def _load_tokenizer(folder: Path, max_tokens: int | None) -> Tokenizer:
    """Load a tokenizer that pads nothing and truncates to `max_tokens`, or not at all."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    if max_tokens is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _length(encoding: Encoding) -> int:
    return len(encoding.ids)


def _token_ids(encoding: Encoding) -> TokenIds:
    return TokenIds(encoding.ids, len(encoding.ids))


def _pool_passage(
    passage: PassageInput, tokens: Vectors, encoding: Encoding
) -> tuple[Vectors, Vectors]:
    """Average token vectors over the passage and over each sentence.

    A sentence beyond the model's maximum input length gets the passage's vector.
    """
    passage_vector = tokens.mean(axis=0)
    token_starts = np.array([start for start, _ in encoding.offsets]) - passage.text_start
    is_word = np.array(encoding.special_tokens_mask) == 0
    sentence_vectors = np.empty((len(passage.sentences), tokens.shape[1]), np.float32)
    for row, (start, end) in enumerate(passage.sentences):
        inside = is_word & (token_starts >= start) & (token_starts < end)
        sentence_vectors[row] = tokens[inside].mean(axis=0) if inside.any() else passage_vector
    return normalize(passage_vector), normalize(sentence_vectors)


def _converted_model(name: str, folder: Path, fingerprint: str) -> Path:
    """Return the path of the converted model, converting it on first use."""
    target = convert_once(
        f"{fingerprint}-{_CONVERSION}",
        "model.xml",
        f"the embedding model {name}",
        lambda scratch: _convert(folder, scratch / "model.xml"),
    )
    return target / "model.xml"


def _convert(folder: Path, target: Path) -> None:
    import torch
    from transformers import AutoModel

    from rag.models.runtimes.quiet import quiet_libraries

    with quiet_libraries():
        model = AutoModel.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        ones = torch.ones(2, 8, dtype=torch.long)
        example = {"input_ids": ones, "attention_mask": ones.clone()}
        if "token_type_ids" in model.forward.__code__.co_varnames:
            example["token_type_ids"] = torch.zeros(2, 8, dtype=torch.long)
        converted = openvino.convert_model(model.eval(), example_input=example)
        openvino.save_model(_quantize(converted, folder), target, compress_to_fp16=False)


def _quantize(model: Any, folder: Path) -> Any:  # noqa: ANN401
    """Quantize to 8 bits, 1.5 times as fast, unless that changes the vectors too much.

    Half of the sample abstracts calibrate the ranges of the activations (post-training
    quantization, as in Nagel et al., 2021); the vectors are compared on the other half.
    """
    samples = _sample_inputs(folder, input_names(model))
    calibration, test = samples[::2], samples[1::2]
    quantized = nncf().quantize(
        model.clone(),
        nncf().Dataset(calibration),
        model_type=nncf().ModelType.TRANSFORMER,
        subset_size=len(samples) // 2,
    )
    before = _mean_vectors(model, test)
    after = _mean_vectors(quantized, test)
    similarity = (before * after).sum(axis=1).mean()
    return quantized if similarity >= _MIN_SIMILARITY else model


def _sample_inputs(folder: Path, names: Container[str]) -> list[dict[str, Any]]:
    tokenizer = _load_tokenizer(folder, _CALIBRATION_TOKENS)
    inputs = []
    for line in sample_file().read_text(encoding="utf-8").splitlines():
        paper = json.loads(line)
        encoding = tokenizer.encode(f"{paper['title']}. {paper['abstract']}")
        inputs.append(model_inputs([_token_ids(encoding)], names))
    return inputs


def _mean_vectors(model: Any, samples: Iterable[dict[str, Any]]) -> Vectors:  # noqa: ANN401
    compiled = openvino.Core().compile_model(model, "CPU")
    vectors = []
    for inputs in samples:
        tokens = compiled(inputs)[0][0, : inputs["attention_mask"].sum()]
        vectors.append(tokens.mean(axis=0))
    return normalize(np.stack(vectors))
