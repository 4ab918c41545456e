"""Mean-pooling encoders in OpenVINO, which neither imports PyTorch to answer nor takes its time on a CPU.

The first use converts the weights (PyTorch and transformers, some ten seconds) and keeps the converted
copy in the user's cache; later starts load that.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from rag.config import cache_folder
from rag.models.embedder import TextToEmbed
from rag.models.files import prepared, read_json
from rag.models.runtime import openvino
from rag.vectors import Vectors, unit

_BATCH = 16
# The converted form may change with the version of the converter.
_CONVERTED = f"openvino-{openvino.__version__.split('-')[0]}"


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
        self.max_tokens = int(settings.get("max_seq_length") or 512) if isinstance(settings, dict) else 512
        self._tokenizer.enable_truncation(self.max_tokens)
        self._lock = threading.Lock()
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(cache_folder() / "openvino")})
        self._model = core.compile_model(_converted(name, folder, fingerprint), "CPU")
        self._inputs = {name for port in self._model.inputs for name in port.names}
        self.dimension = int(self._model.output(0).partial_shape[2].get_length())

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return [len(encoding.ids) for encoding in self._counter.encode_batch(list(texts), add_special_tokens=False)]

    def embed_question(self, question: str) -> Vectors:
        """One unit vector, (dimension,)."""
        ((_, tokens, _),) = self._token_vectors([question])
        return unit(tokens.mean(axis=0))

    def embed_passages(self, texts: Sequence[TextToEmbed]) -> list[tuple[Vectors, Vectors]]:
        """For each passage its unit vector and those of its sentences."""
        found: dict[int, tuple[Vectors, Vectors]] = {}
        for index, tokens, encoding in self._token_vectors([text.whole for text in texts]):
            passage = tokens.mean(axis=0)
            found[index] = (unit(passage), _sentence_vectors(texts[index], tokens, encoding, passage))
        return [found[index] for index in range(len(texts))]

    def _token_vectors(self, texts: Sequence[str]) -> Iterator[tuple[int, Vectors, Encoding]]:
        """Index, token vectors (tokens, dimension) and encoding of each text; batches hold texts of like length."""
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda index: (len(encodings[index].ids), index))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            with self._lock:  # a compiled model has one set of buffers
                hidden = self._model(self._feed([encodings[index] for index in batch]))[0]
            for row, index in enumerate(batch):
                yield index, hidden[row, : len(encodings[index].ids)], encodings[index]

    def _feed(self, encodings: Sequence[Encoding]) -> dict[str, Any]:
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: value for name, value in feed.items() if name in self._inputs}


def _sentence_vectors(text: TextToEmbed, tokens: Vectors, encoding: Encoding, passage: Vectors) -> Vectors:
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

    from rag.models.quiet import quiet_conversion

    with quiet_conversion():
        model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, local_files_only=True)
        example = {name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")}
        if "token_type_ids" in model.forward.__code__.co_varnames:
            example["token_type_ids"] = torch.zeros(2, 8, dtype=torch.long)
        openvino.save_model(openvino.convert_model(model.eval(), example_input=example), target, compress_to_fp16=False)
