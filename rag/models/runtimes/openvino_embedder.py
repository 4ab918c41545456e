"""Mean-pooling encoders in OpenVINO, which neither imports PyTorch to answer nor takes its time on a CPU.

The first use converts the weights (PyTorch and transformers, some twenty seconds) and keeps the converted
copy in the user's cache; later starts load that.
"""

import json
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from rag.config import cache_folder
from rag.ingest.sample import sample_file
from rag.models.embedder import PassageInput
from rag.models.files import prepared, read_json
from rag.models.runtimes.openvino_import import nncf, openvino
from rag.models.vectors import Vectors, unit

_BATCH = 8
# Lengths are rounded up to a multiple of this, for OpenVINO compiles the model's parts anew for each length it meets.
_LENGTH_STEP = 16
# The converted form may change with the version of the converter.
_CONVERTED = f"openvino-{openvino.__version__.split('-')[0]}-int8"
# Mean cosine of the vectors before and after quantisation, from which on they find papers as well: the packaged
# model's is 0.997, and its mean nDCG@10 on four collections is the same within 0.002 (`eval/LOG.md`).
_LEAST_LIKENESS = 0.99
_SAMPLE_TOKENS = 256


class OpenVinoEmbedder:
    """See `rag.models.Embedder`. Safe to use from several threads."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        settings = read_json(folder / "sentence_bert_config.json") or {}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._counter = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._counter.no_padding()
        self._counter.no_truncation()
        self.max_tokens = (
            int(settings.get("max_seq_length") or 512) if isinstance(settings, dict) else 512
        )
        self._tokenizer.enable_truncation(self.max_tokens)
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(cache_folder() / "openvino")})
        model = core.compile_model(
            _converted(name, folder, fingerprint), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}
        )
        self._inputs = {name for port in model.inputs for name in port.names}
        self.dimension = int(model.output(0).partial_shape[2].get_length())
        self._streams = int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._streams):
            self._idle.put(model.create_infer_request())

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return [
            len(encoding.ids)
            for encoding in self._counter.encode_batch(list(texts), add_special_tokens=False)
        ]

    def embed_question(self, question: str) -> Vectors:
        """One unit vector, (dimension,)."""
        (tokens,) = self._token_vectors([self._tokenizer.encode(question)])
        return unit(tokens.mean(axis=0))

    def embed_passages(self, texts: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """For each passage its unit vector and those of its sentences. Batches hold texts of like length."""
        encodings = self._tokenizer.encode_batch([text.whole for text in texts])
        order = sorted(range(len(texts)), key=lambda index: (len(encodings[index].ids), index))
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]

        def embed(batch: Sequence[int]) -> list[tuple[int, tuple[Vectors, Vectors]]]:
            of_tokens = self._token_vectors([encodings[index] for index in batch])
            return [
                (index, _passage_and_sentences(texts[index], tokens, encodings[index]))
                for index, tokens in zip(batch, of_tokens, strict=True)
            ]

        # The longest first, so that no core waits long for the last batch of another.
        with ThreadPoolExecutor(self._streams) as pool:
            found = dict(pair for pairs in pool.map(embed, reversed(batches)) for pair in pairs)
        return [found[index] for index in range(len(texts))]

    def _token_vectors(self, encodings: Sequence[Encoding]) -> list[Vectors]:
        """The vectors of each text's tokens, (tokens, dimension), which depend on no other text."""
        request = self._idle.get()
        try:
            hidden = request.infer(_feed(encodings, self._inputs))[0]
            return [
                hidden[row, : len(encoding.ids)].copy() for row, encoding in enumerate(encodings)
            ]
        finally:
            self._idle.put(request)


def _feed(encodings: Sequence[Encoding], names: Container[str]) -> dict[str, Any]:
    """The inputs of a batch, those of these names; shorter texts are padded."""
    longest = max(len(encoding.ids) for encoding in encodings)
    ids = np.zeros((len(encodings), -(-longest // _LENGTH_STEP) * _LENGTH_STEP), np.int64)
    mask = np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: value for name, value in feed.items() if name in names}


def _passage_and_sentences(
    text: PassageInput, tokens: Vectors, encoding: Encoding
) -> tuple[Vectors, Vectors]:
    passage = tokens.mean(axis=0)
    return unit(passage), _sentence_vectors(text, tokens, encoding, passage)


def _sentence_vectors(
    text: PassageInput, tokens: Vectors, encoding: Encoding, passage: Vectors
) -> Vectors:
    """Mean of each sentence's tokens; a sentence behind the model's last token gets the passage's vector."""
    starts = np.array([start for start, _ in encoding.offsets]) - text.offset
    real = np.array(encoding.special_tokens_mask) == 0
    vectors = np.empty((len(text.sentences), tokens.shape[1]), np.float32)
    for row, (start, end) in enumerate(text.sentences):
        own = real & (starts >= start) & (starts < end)
        vectors[row] = tokens[own].mean(axis=0) if own.any() else passage
    return unit(vectors)


def _converted(name: str, folder: Path, fingerprint: str) -> Path:
    """The converted model, made on first use."""
    target = prepared(
        f"{fingerprint}-{_CONVERTED}",
        "model.xml",
        f"the embedding model {name}",
        lambda scratch: _convert(folder, scratch / "model.xml"),
    )
    return target / "model.xml"


def _convert(folder: Path, target: Path) -> None:
    import torch
    from transformers import AutoModel

    from rag.models.runtimes.quiet import quiet_conversion

    with quiet_conversion():
        model = AutoModel.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        example = {
            name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")
        }
        if "token_type_ids" in model.forward.__code__.co_varnames:
            example["token_type_ids"] = torch.zeros(2, 8, dtype=torch.long)
        converted = openvino.convert_model(model.eval(), example_input=example)
        openvino.save_model(_in_whole_numbers(converted, folder), target, compress_to_fp16=False)


def _in_whole_numbers(model: Any, folder: Path) -> Any:  # noqa: ANN401 - OpenVINO has no types
    """The model with 8-bit weights and activations, half again as fast; as it was, where that changes its vectors.

    The ranges of the activations are taken from one half of the sample abstracts (post-training quantisation, as in
    Nagel et al., 2021), and the vectors compared on the other.
    """
    feeds = _sample_feeds(folder, {name for port in model.inputs for name in port.names})
    settings = {"model_type": nncf().ModelType.TRANSFORMER, "subset_size": len(feeds) // 2}
    quantised = nncf().quantize(model.clone(), nncf().Dataset(feeds[::2]), **settings)
    before, after = (_mean_vectors(one, feeds[1::2]) for one in (model, quantised))
    return quantised if (before * after).sum(axis=1).mean() >= _LEAST_LIKENESS else model


def _sample_feeds(folder: Path, names: Container[str]) -> list[dict[str, Any]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_SAMPLE_TOKENS)
    papers = map(json.loads, sample_file().read_text(encoding="utf-8").splitlines())
    return [
        _feed([tokenizer.encode(f"{paper['title']}. {paper['abstract']}")], names)
        for paper in papers
    ]


def _mean_vectors(model: Any, feeds: Iterable[dict[str, Any]]) -> Vectors:  # noqa: ANN401
    compiled = openvino.Core().compile_model(model, "CPU")
    return unit(
        np.stack(
            [compiled(feed)[0][0, : feed["attention_mask"].sum()].mean(axis=0) for feed in feeds]
        )
    )
