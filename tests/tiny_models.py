"""Tiny models with random weights, saved in the layout of Hugging Face or sentence-transformers."""

import numpy as np

LANGUAGE_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LANGUAGE_TOKENS = ["<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
ENCODER_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
GGUF_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GGUF_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
GGUF_WIDTH = 256
GGUF_LAYERS = 2
# Bytes of a block, where the scales are in it, and scales that give weights of about 0.1.
GGUF_BLOCKS = {"Q4_K": (144, 0, [2e-4, 1.4e-3]), "Q6_K": (210, 208, [8e-5])}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def save_tiny_language_model(folder, template=LANGUAGE_TEMPLATE, positions=512):
    """Save a Llama of two layers whose tokens are bytes; a seed makes it the same each time."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # No room for merged tokens: every byte is a token, and tests can count by hand.
    trainer = BpeTrainer(
        vocab_size=len(LANGUAGE_TOKENS) + len(alphabet),
        special_tokens=LANGUAGE_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["eelgrass meadows store carbon"], trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair=None, special_tokens=[("<s>", 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|end|>",
        additional_special_tokens=LANGUAGE_TOKENS[2:],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_tiny_gguf(file, architecture="qwen2", template=GGUF_TEMPLATE):
    """Save a GGUF file of two layers with random Q4_K and Q6_K weights, the same each time.

    Its tokens are bytes.
    """
    from gguf import GGUFWriter

    random = np.random.default_rng(7)
    writer = GGUFWriter(file, architecture)
    writer.add_block_count(GGUF_LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(GGUF_WIDTH)
    writer.add_feed_forward_length(2 * GGUF_WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(15)
    _add_byte_tokenizer(writer, template)
    for name, rows, columns, layout in _gguf_matrices(architecture):
        if layout == "F32":
            mean = 0.0 if name.endswith("bias") else 1.0
            writer.add_tensor(name, random.normal(mean, 0.1, rows).astype(np.float32))
        else:
            blocks, kind = _random_blocks(random, rows, columns, layout)
            writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_byte_tokenizer(writer, template):
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, "th", *GGUF_TOKENS]
    special, normal = 3, 1
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([normal] * (len(letters) + 1) + [special] * len(GGUF_TOKENS))
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def _gguf_matrices(architecture):
    """Yield the name, rows, columns and layout of every tensor."""
    width, inner, key_width = GGUF_WIDTH, 2 * GGUF_WIDTH, GGUF_WIDTH // 2
    tokens = 257 + len(GGUF_TOKENS)
    yield "token_embd.weight", tokens, width, "Q4_K"
    yield "output.weight", tokens, width, "Q6_K"
    yield "output_norm.weight", width, 1, "F32"
    for layer in range(GGUF_LAYERS):
        start = f"blk.{layer}."
        yield f"{start}attn_norm.weight", width, 1, "F32"
        yield f"{start}ffn_norm.weight", width, 1, "F32"
        yield f"{start}attn_q.weight", width, width, "Q4_K"
        yield f"{start}attn_k.weight", key_width, width, "Q4_K"
        yield f"{start}attn_v.weight", key_width, width, "Q6_K"
        yield f"{start}attn_output.weight", width, width, "Q4_K"
        yield f"{start}ffn_gate.weight", inner, width, "Q4_K"
        yield f"{start}ffn_up.weight", inner, width, "Q4_K"
        yield f"{start}ffn_down.weight", width, inner, "Q6_K"
        if architecture == "qwen2":
            yield f"{start}attn_q.bias", width, 1, "F32"
            yield f"{start}attn_k.bias", key_width, 1, "F32"
            yield f"{start}attn_v.bias", key_width, 1, "F32"


def _random_blocks(random, rows, columns, layout):
    """Return blocks of 256 weights, and their type; only the scales of blocks are not random."""
    from gguf import GGMLQuantizationType

    size, scales_at, scales = GGUF_BLOCKS[layout]
    blocks = random.integers(0, 256, (rows * columns // 256, size), dtype=np.uint8)
    halves = np.array(scales, np.float16).view(np.uint8)
    blocks[:, scales_at : scales_at + len(halves)] = halves
    return blocks.reshape(rows, -1), GGMLQuantizationType[layout]


def save_tiny_embedder(folder, pooling, seed=7):
    """Save a BERT of two layers and 32 dimensions that reads 64 letters."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertModel

    encoder = folder / "encoder"
    config = _save_letter_tokenizer(encoder)
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(encoder)
    transformer = Transformer(str(encoder), max_seq_length=64)
    modules = [transformer, Pooling(config.hidden_size, pooling)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def _save_letter_tokenizer(folder):
    """Save a tokenizer for up to 64 letters; return the configuration of a BERT for it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, PreTrainedTokenizerFast

    continued = [f"##{letter}" for letter in LETTERS]
    tokens = [*ENCODER_TOKENS.values(), *LETTERS, *continued]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **ENCODER_TOKENS
    )
    fast.save_pretrained(folder)
    return BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
