"""Tiny models with random weights, saved in the layout of Hugging Face or sentence-transformers."""

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
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NLI_LABELS = ("entailment", "neutral", "contradiction")


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


def save_tiny_nli_model(folder, labels=NLI_LABELS):
    """Save a cross-encoder whose logits are 0 for entailment, 1 for neutral, 2 for contradiction.

    `labels` gives the order of its outputs.
    """
    import torch
    from transformers import BertForSequenceClassification

    config = _save_letter_tokenizer(folder)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: output for output, label in enumerate(labels)}
    config.num_labels = len(labels)
    model = BertForSequenceClassification(config)
    torch.nn.init.zeros_(model.classifier.weight)
    logits = [float(NLI_LABELS.index(label.lower())) for label in labels]
    model.classifier.bias.data = torch.tensor(logits)
    model.save_pretrained(folder)
    return folder


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
