"""Any causal language model that transformers can load, on a GPU where there is one."""

import contextlib
import inspect
import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)

from rag.errors import ModelFailed, ModelUnavailable
from rag.models.files import check_weights, context_length, digest_of, prepared
from rag.models.language_model import (
    CONTEXT_TOKENS,
    QUESTION_TOKENS,
    GenerationLimits,
    Message,
    as_script,
    as_text,
    as_turns,
    check_fits,
)
from rag.models.runtimes.quiet import quiet_conversion
from rag.models.runtimes.streaming import Emit, stream_from_thread

# Contexts that are read at once.
_BATCH_ON_CPU, _BATCH_ON_GPU = 4, 16


class TransformersLanguageModel:
    """See `rag.models.LanguageModel` and `rag.models.Reader`. Safe to use from several threads."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _check_files(name, folder)
        with quiet_conversion():
            self._tokenizer, self._model = _loaded(folder, self._device)
        self.context_tokens = context_length(self._model.config.to_dict())
        self._special = _special_tokens(self._tokenizer)
        self._takes = set(inspect.signature(self._model.forward).parameters)
        self._writing = threading.Lock()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the messages as the model will see them, its chat template included."""
        return len(self._encode(messages))

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """See `rag.models.LanguageModel`."""
        tokens = self._encode(messages)
        check_fits(self.name, len(tokens), limits, self.context_tokens)

        def generate(emit: Emit) -> None:
            with self._writing:
                if emit(""):  # somebody may have left while another generation ran
                    self._generate(tokens, limits, emit)

        return stream_from_thread(self.name, generate, limits, stop, on_end=lambda: None)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """The messages as token ids. A chat template brings its own first token, a script does not."""
        turns = as_turns(messages, self._special)
        if not self._tokenizer.chat_template:
            return list(self._tokenizer(as_script(turns), verbose=False)["input_ids"])
        try:
            text = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program of strangers, and may refuse a role
            raise ModelFailed(
                self.name, f"its chat template does not take these messages: {error}"
            ) from error
        return self._tokens(text)

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _generate(self, tokens: list[int], limits: GenerationLimits, emit: Emit) -> None:
        ids = torch.tensor([tokens], device=self._device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=limits.tokens,
                do_sample=False,
                streamer=_Pieces(self._tokenizer, emit),
                stopping_criteria=StoppingCriteriaList([_NobodyListens(emit)]),
            )

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """See `rag.models.Reader`. An empty context stands for the beginning of a text."""
        asked = self._tokens(as_text(f" {question}", self._special))[:QUESTION_TOKENS]
        room = max(1, min(CONTEXT_TOKENS, self.context_tokens - len(asked)))
        read = [
            self._tokens(as_text(context, self._special))[-room:] or [self._first_token()]
            for context in contexts
        ]
        found: list[list[float]] = [[] for _ in contexts]
        order = sorted(range(len(read)), key=lambda index: len(read[index])) if asked else []
        size = _BATCH_ON_CPU if self._device.type == "cpu" else _BATCH_ON_GPU
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            try:
                rows = self._log_probabilities([read[index] + asked for index in batch], len(asked))
            except (
                RuntimeError
            ) as error:  # PyTorch's error for all its failures, a full GPU included
                raise ModelFailed(self.name, str(error)) from error
            for index, row in zip(batch, rows, strict=True):
                found[index] = row
        return found

    def _first_token(self) -> int:
        """What the model has seen at the beginning of texts: its first token, or else the one that ends a text."""
        known = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, 0)
        return next(int(token) for token in known if token is not None)

    def _log_probabilities(self, rows: Sequence[Sequence[int]], asked: int) -> list[list[float]]:
        """Of each row the log-probabilities (nats) of its last `asked` tokens. Rows are padded on the left."""
        longest = max(map(len, rows))
        ids = torch.tensor(
            [[0] * (longest - len(row)) + list(row) for row in rows], device=self._device
        )
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self._device
        )
        feed: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
            "use_cache": False,
            "logits_to_keep": asked + 1,
        }
        with torch.inference_mode():
            logits = self._model(
                **{name: value for name, value in feed.items() if name in self._takes}
            ).logits
            chances = logits[:, -asked - 1 : -1].float().log_softmax(-1)
            found: list[list[float]] = chances.gather(2, ids[:, -asked:, None])[..., 0].tolist()
        return found


class _Pieces(TextStreamer):
    """Hands on the text, word by word."""

    def __init__(self, tokenizer: Any, emit: Emit) -> None:  # noqa: ANN401 - transformers has many kinds
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._emit(text)


class _NobodyListens(StoppingCriteria):
    """Ends the generation, within a token, when nobody listens any more."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return torch.full(
            (input_ids.shape[0],), not self._emit(""), device=input_ids.device, dtype=torch.bool
        )


def _loaded(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """Tokeniser and model. What a model suggests for sampling is dropped, for nothing is sampled here."""
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32 if device.type == "cpu" else "auto",
    )
    model = model.to(device).eval()
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    ends = sorted(end for end in ends if end is not None)
    greedy: Any = GenerationConfig  # untyped in transformers
    model.generation_config = greedy(eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0)
    return tokenizer, model


def folder_from_gguf(weights: Path) -> Path:
    """A folder with the model of a GGUF file as transformers saves it, converted on first use.

    That takes the time once that reading the file takes each time.
    """
    return prepared(
        f"{digest_of([weights])}-transformers-{transformers.__version__}",
        "config.json",
        f"the language model {weights.stem}",
        lambda scratch: _convert(weights, scratch),
    )


def _convert(weights: Path, scratch: Path) -> None:
    """Through the parts of transformers that need no other library; half precision is more than the file has."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    place: dict[str, Any] = {
        "gguf_file": weights.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    with (
        quiet_conversion(),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # one bar of progress cannot be turned off
        AutoTokenizer.from_pretrained(weights.parent, **place).save_pretrained(scratch)
        make: Any = AutoModelForCausalLM.from_config  # as untyped as the next
        read: Any = load_gguf_checkpoint
        model = make(AutoConfig.from_pretrained(weights.parent, **place))
        missing, unknown = model.load_state_dict(
            read(str(weights), True, model)["tensors"], strict=False
        )
        model.tie_weights()
        if unknown or set(missing) - set(model.all_tied_weights_keys):
            raise ValueError(
                f"{weights.name} does not hold the whole model: {[*missing, *unknown][:3]}"
            )
        model.half().save_pretrained(scratch)


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def _check_files(name: str, folder: Path) -> None:
    """Raise `ModelUnavailable` when the folder lacks a tokeniser, or weights that are safe to read."""
    if not any(
        (folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise ModelUnavailable(
            f"the language model '{name}' in {folder} has no tokeniser; "
            "tokenizer.json and tokenizer_config.json of the model belong beside config.json"
        )
    check_weights(name, folder, "language")
    if any(folder.glob("*.safetensors")):
        return
    whole = (
        "copy its *.safetensors files there"
        if Path(name).is_dir()
        else f"to download them: hf download {name}"
    )
    raise ModelUnavailable(f"the language model '{name}' in {folder} has no weights; {whole}")
