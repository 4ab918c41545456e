"""Run causal language models in transformers, on a GPU if there is one."""

import contextlib
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
from rag.models.files import (
    convert_once,
    find_model_folder,
    fingerprint_folder,
    read_context_length,
    reject_pickled_weights,
)
from rag.models.gguf_files import GgufFile
from rag.models.language_model import (
    STATE_DEPTH,
    GenerationLimits,
    Message,
    check_prompt_fits,
    compare_logits,
    format_chat,
    format_transcript,
    split_choices,
)
from rag.models.runtimes.quiet import quiet_libraries
from rag.models.runtimes.streaming import Emit, run_in_thread, stream_from_thread
from rag.models.vectors import Vectors

# Bytes on the disk per byte of the GGUF file, while it is converted.
_CONVERSION_SPACE = 5
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def open_language_model(name: str) -> "TransformersLanguageModel":
    """Load the model of a folder or of a Hugging Face id that was downloaded."""
    folder = find_model_folder(name, "language")
    return TransformersLanguageModel(name, folder, fingerprint_folder(folder))


class TransformersLanguageModel:
    """Language model that generates replies and judges in PyTorch. Thread-safe."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _check_files(name, folder)
        with quiet_libraries():
            self._tokenizer, self._model = _load_tokenizer_and_model(folder, self._device)
        self.context_tokens = read_context_length(self._model.config.to_dict())
        self._special_tokens = _special_tokens(self._tokenizer)
        self._generation_lock = threading.Lock()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, its chat template included."""
        return len(self._encode(messages))

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in pieces; see `LanguageModel.stream`."""
        tokens = self._encode(messages)
        check_prompt_fits(self.name, len(tokens), limits, self.context_tokens)

        def generate(emit: Emit) -> None:
            with self._generation_lock:
                if emit(""):  # the consumer may have left while another generation ran
                    self._generate(tokens, limits, emit)

        return stream_from_thread(self.name, generate, limits, stop)

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Return how probable the first choice is; see `ChoiceModel.choice_probability`."""
        shared, first, second = split_choices(*map(self._tokenize, choices))
        prompt = self._encode(messages) + shared
        check_prompt_fits(self.name, len(prompt), limits, self.context_tokens)

        def compare(emit: Emit) -> float | None:
            with self._generation_lock:
                if not emit(""):
                    return None
                logits = self._next_token_logits(prompt)
            return compare_logits(logits[first], logits[second])

        return run_in_thread(self.name, compare, limits, stop)

    def hidden_state(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Vectors | None:
        """Return the state after a prompt; see `HiddenStateModel.hidden_state`."""
        prompt = self._encode(messages)
        check_prompt_fits(self.name, len(prompt), limits, self.context_tokens)

        def read(emit: Emit) -> Vectors | None:
            with self._generation_lock:
                return self._state(prompt) if emit("") else None

        return run_in_thread(self.name, read, limits, stop)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt's token ids.

        A chat template includes the first token; a transcript does not.
        """
        turns = format_chat(messages, self._special_tokens)
        if not self._tokenizer.chat_template:
            return list(self._tokenizer(format_transcript(turns), verbose=False)["input_ids"])
        try:
            text = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is untrusted code, and may refuse a role
            raise ModelFailed(self.name, f"cannot apply its chat template: {error}") from error
        return self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _next_token_logits(self, tokens: list[int]) -> list[float]:
        ids = torch.tensor([tokens], device=self._device)
        with torch.inference_mode():
            logits: list[float] = self._model(input_ids=ids).logits[0, -1].tolist()
        return logits

    def _state(self, tokens: list[int]) -> Vectors:
        ids = torch.tensor([tokens], device=self._device)
        with torch.inference_mode():
            # The embedded tokens come first, then the states after each layer.
            states = self._model(input_ids=ids, output_hidden_states=True).hidden_states
        state = states[round(STATE_DEPTH * (len(states) - 1))]
        vector: Vectors = state[0, -1].float().cpu().numpy()
        return vector

    def _generate(self, tokens: list[int], limits: GenerationLimits, emit: Emit) -> None:
        ids = torch.tensor([tokens], device=self._device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=limits.tokens,
                do_sample=False,
                streamer=_EmittingStreamer(self._tokenizer, emit),
                stopping_criteria=StoppingCriteriaList([_StopWhenClosed(emit)]),
            )


class _EmittingStreamer(TextStreamer):
    """Streamer that emits the text word by word."""

    def __init__(self, tokenizer: Any, emit: Emit) -> None:  # noqa: ANN401 - of many types
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._emit(text)


class _StopWhenClosed(StoppingCriteria):
    """Criterion that stops the generation within a token when the consumer has left."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        is_closed = not self._emit("")
        rows = (input_ids.shape[0],)
        return torch.full(rows, is_closed, device=input_ids.device, dtype=torch.bool)


def _load_tokenizer_and_model(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """Load a tokenizer and a model, without the model's default sampling settings."""
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
    end_tokens = _end_tokens(model, tokenizer)
    greedy: Any = GenerationConfig  # untyped in transformers
    model.generation_config = greedy(
        eos_token_id=end_tokens or None, pad_token_id=end_tokens[0] if end_tokens else 0
    )
    return tokenizer, model


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Return the tokens that end a reply according to the model or the tokenizer."""
    from_model = model.generation_config.eos_token_id
    tokens = set(from_model if isinstance(from_model, list) else [from_model])
    tokens.add(tokenizer.eos_token_id)
    tokens.discard(None)
    return sorted(tokens)


def convert_gguf_to_transformers(source: GgufFile) -> Path:
    """Return the folder of a GGUF file converted for transformers, converting it on first use.

    Reading a GGUF file is slow, so the result is cached.
    """
    return convert_once(
        f"{source.fingerprint}-transformers-{transformers.__version__}",
        "config.json",
        f"the language model {source.title}",
        lambda scratch: _convert(source, scratch),
        needed_bytes=int(_CONVERSION_SPACE * source.size),
    )


def _convert(source: GgufFile, scratch: Path) -> None:
    """Convert without the optional dependencies of transformers.

    Half precision exceeds that of the GGUF file.
    """
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    weights = scratch / "model.gguf"
    source.write(weights)
    settings: dict[str, Any] = {
        "gguf_file": weights.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    # Standard error is redirected because one progress bar cannot be turned off.
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(scratch, **settings)
        create_model: Any = AutoModelForCausalLM.from_config  # untyped in transformers
        load_checkpoint: Any = load_gguf_checkpoint
        config = AutoConfig.from_pretrained(scratch, **settings)
        with torch.device("meta"):  # takes no memory; the weights are put in below
            model = create_model(config)
        tensors = load_checkpoint(str(weights), True, model)["tensors"]
        missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
        del tensors
        model.tie_weights()
        if unexpected or set(missing) - set(model.all_tied_weights_keys):
            examples = [*missing, *unexpected][:3]
            raise ValueError(f"{source.title} does not match the model in: {examples}")
        weights.unlink()
        model.half().save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    tokens = dict.fromkeys(tokenizer.all_special_tokens)
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            tokens[str(token)] = None
    return tuple(tokens)


def _check_files(name: str, folder: Path) -> None:
    """Raise `ModelUnavailable` when the folder lacks a tokenizer or safe weights."""
    if not any((folder / file).exists() for file in _TOKENIZER_FILES):
        raise ModelUnavailable(
            f"the language model '{name}' in {folder} has no tokenizer; "
            "copy its tokenizer.json and tokenizer_config.json there"
        )
    reject_pickled_weights(name, folder, "language")
    if any(folder.glob("*.safetensors")):
        return
    is_folder = Path(name).is_dir()
    way_out = "copy its *.safetensors files there" if is_folder else f"run: hf download {name}"
    raise ModelUnavailable(f"the language model '{name}' in {folder} has no weights; {way_out}")
