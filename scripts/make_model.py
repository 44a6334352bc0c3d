#!/usr/bin/env python3
"""Writes a Llama GGUF with random weights: a tiny one for tests, or one with the shape of Llama 3.2 1B.

Usage: pip install gguf numpy && python scripts/make_model.py --shape tiny OUT.gguf

The same options give the same bytes. Weights are random blocks with a chosen spread: nothing is quantised, so every tensor
type is covered and a gigabyte takes seconds. The tiny model says words: it repeats itself, greedily and sampled, but not
always the same way, so that an n-gram proposer has drafts accepted and rejected.
"""

import argparse
import re
from dataclasses import dataclass
from itertools import cycle, product

import numpy as np
from gguf import GGUFWriter, TokenType
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

FLOATS = {T.F32, T.F16, T.BF16}
K_TYPES = {T.Q4_K, T.Q5_K, T.Q6_K}
# The f16 scales of a block: byte offset, value relative to the first. The second centres the weights on zero.
SCALES = {
    T.Q8_0: [(0, 1)], T.Q4_0: [(0, 1)], T.Q4_1: [(0, 1), (2, -7.5)], T.Q5_0: [(0, 1)], T.Q5_1: [(0, 1), (2, -15.5)],
    T.Q4_K: [(0, 1), (2, 7.5)], T.Q5_K: [(0, 1), (2, 15.5)], T.Q6_K: [(208, 1)],
}
WORDS = """the and that with from this have they what when there which their would about could other these
time people water light night world house river""".split()
CHATML = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA3 = """{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>

{{ message['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""


@dataclass
class Tokenizer:
    pre: str
    tokens: list[str]
    merges: list[str]
    control: range
    bos: str
    eos: str
    eot: str
    add_bos: bool
    template: str


@dataclass
class Shape:
    layers: int
    d: int
    ff: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    rope_base: float
    # Llama 3's long-context scaling: factor, and the context before it.
    rope_factor: float
    rope_original: int


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary, as in GPT-2."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def tiny_tokenizer() -> Tokenizer:
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens, merges = control + byte_alphabet(), []
    for word in WORDS:
        for end in range(1, len(word) + 1):
            left, right = "Ġ" + word[: end - 1], word[end - 1]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    eos = "<|im_end|>"
    return Tokenizer("smollm", tokens, merges, range(3), control[0], eos, eos, False, CHATML)


def llama3_tokenizer(rng: np.random.Generator) -> Tokenizer:
    """As many tokens and merges as Llama 3 has, of like lengths."""
    alphabet = byte_alphabet()
    letters = "Ġetaoinshrdl"
    # All short pieces, so that a longer word can be split in several ways, which Llama 3 lists as merges of their own.
    short = [[*map("".join, product(letters, repeat=n))] for n in range(1, 5)]
    words = [piece for pieces in short for piece in pieces]
    tokens = dict.fromkeys([*alphabet, *words])

    def pick(pieces: list[str]) -> str:
        return pieces[int(rng.integers(len(pieces)))]

    while len(tokens) < 128000:
        left = pick(words) if rng.random() < 0.35 else pick(short[int(rng.integers(4))])
        word = left + pick(short[int(rng.integers(4))])
        if word not in tokens and len(word) <= 16:
            tokens[word] = None
            words.append(word)
    splits = ((w[:at], w[at:]) for w in words for at in range(1, len(w)))
    merges = [f"{left} {right}" for left, right in splits if left in tokens and right in tokens][:280147]
    named = {0: "begin_of_text", 1: "end_of_text", 6: "start_header_id", 7: "end_header_id", 8: "eom_id", 9: "eot_id"}
    control = [f"<|{named.get(i, f'reserved_special_token_{i}')}|>" for i in range(256)]
    first = len(tokens)
    return Tokenizer(
        "llama-bpe", [*tokens, *control], merges, range(first, first + 256), control[0], control[1], control[9], True, LLAMA3
    )


def rope_factors_llama3(
    base: float, head_dim: int, factor: float, original: int, low_factor: float = 1.0, high_factor: float = 4.0
) -> np.ndarray:
    """What divides each pair's frequency, as llama.cpp's converter computes it for Llama 3.1 and later."""
    wavelength = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = original / low_factor, original / high_factor
    smooth = (original / wavelength - low_factor) / (high_factor - low_factor)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelength < high, 1.0, np.where(wavelength > low, factor, between))
    return factors.astype(np.float32)


def weights(ty: T, rows: int, cols: int, spread: np.ndarray | float, rng: np.random.Generator) -> np.ndarray:
    """Bytes of a random matrix, `[rows, bytes a row]`; `spread` is the standard deviation, of all or of each row."""
    spread = np.broadcast_to(np.asarray(spread, np.float32), rows)
    if ty in FLOATS:
        values = rng.standard_normal((rows, cols), dtype=np.float32) * spread[:, None]
        if ty == T.F16:
            values = values.astype(np.float16)
        elif ty == T.BF16:
            values = (values.view(np.uint32) >> 16).astype(np.uint16)
        return values.view(np.uint8)
    length, size = GGML_QUANT_SIZES[ty]
    blocks = np.frombuffer(rng.bytes(rows * cols // length * size), np.uint8).reshape(rows, cols // length, size).copy()

    def rescale(blocks: np.ndarray, d: np.ndarray | float) -> None:
        for at, relative in SCALES[ty]:
            blocks[..., at : at + 2] = (np.asarray(d, np.float16) * np.float16(relative))[..., None].view(np.uint8)

    sample = np.frombuffer(np.random.default_rng(0).bytes(256 * size), np.uint8).reshape(1, 256, size).copy()
    rescale(sample, np.ones((1, 1)))
    unit = dequantize(sample.reshape(1, -1), ty).std()
    rescale(blocks, np.broadcast_to((spread / unit)[:, None], blocks.shape[:2]))
    return blocks.reshape(rows, -1)


def tiny_spread(tok: Tokenizer) -> np.ndarray:
    """Whole words are loud and letters less so, so that mostly words are said; control tokens and lone bytes hardly ever."""
    full = {"Ġ" + word for word in WORDS}
    loudness = [1.0 if t in full else 0.8 if re.fullmatch("Ġ?[a-z]+|[.,]", t) else 0.4 for t in tok.tokens]
    return np.array([0.3 if i in tok.control else v for i, v in enumerate(loudness)], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {t.name: t for t in [*FLOATS, *SCALES]}

    def types(text: str) -> list[T]:
        if unknown := [name for name in text.split(",") if name not in names]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(names)}")
        return [names[name] for name in text.split(",")]

    parser.add_argument("out")
    parser.add_argument("--shape", choices=["tiny", "llama-1b"], default="tiny")
    parser.add_argument("--type", type=types, default="Q4_0", help="of the matrices; several, with commas, are taken in turn")
    parser.add_argument("--embedding-type", choices=names, help="of the embedding; tiny: as --type, llama-1b: Q6_K")
    parser.add_argument("--rope-freqs", action="store_true", help="write Llama 3's rope_freqs tensor (llama-1b always does)")
    parser.add_argument("--untied", action="store_true", help="write an output matrix of its own")
    parser.add_argument("--chat-template", metavar="JINJA", help="in place of the shape's own")
    parser.add_argument("--corrupt", type=int, metavar="TOKEN", help="write NaN for this token's embedding, which must be F32")
    parser.add_argument("--split", type=int, default=0, metavar="N", help="write parts of at most N tensors: OUT-00001-of-0000M.gguf")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    tiny = args.shape == "tiny"
    turns = cycle(args.type)
    embedding_ty = names[args.embedding_type] if args.embedding_type else next(turns) if tiny else T.Q6_K
    if tiny:
        # K types come in blocks of 256.
        width = 256 if K_TYPES & {*args.type, embedding_ty} else 64
        s = Shape(2, width, 2 * width, width // 16, width // 32, 32, 512, 10000.0, 8.0, 128)
        tok = tiny_tokenizer()
        # Logits of the same sharpness at every width.
        loudness = tiny_spread(tok) * (64 / width) ** 0.5
    else:
        s = Shape(16, 2048, 8192, 32, 8, 64, 131072, 500000.0, 32.0, 8192)
        tok = llama3_tokenizer(rng)
        loudness = np.float32(0.02)
    vocab, q_d, kv_d = len(tok.tokens), s.heads * s.head_dim, s.kv_heads * s.head_dim

    # Name, type, rows, columns, spread.
    matrices = [("token_embd", embedding_ty, vocab, s.d, loudness)]
    if args.untied:
        matrices.append(("output", next(turns), vocab, s.d, loudness))
    for i in range(s.layers):
        for name, rows, cols, gain in [
            ("attn_q", q_d, s.d, 1.5), ("attn_k", kv_d, s.d, 1.5), ("attn_v", kv_d, s.d, 1.0), ("attn_output", s.d, q_d, 1.0),
            ("ffn_gate", s.ff, s.d, 2.0), ("ffn_up", s.ff, s.d, 2.0), ("ffn_down", s.d, s.ff, 4.0),
        ]:
            matrices.append((f"blk.{i}.{name}", next(turns), rows, cols, gain / cols**0.5))
    norms = [(f"blk.{i}.{name}", 1.0) for i in range(s.layers) for name in ("attn_norm", "ffn_norm")]
    norms.append(("output_norm", 1.0))

    w = GGUFWriter(args.out, "llama", split_max_tensors=args.split)
    w.add_name(f"random {args.shape}")
    w.add_vocab_size(vocab)
    w.add_context_length(s.context)
    w.add_embedding_length(s.d)
    w.add_block_count(s.layers)
    w.add_feed_forward_length(s.ff)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.kv_heads)
    w.add_key_length(s.head_dim)
    w.add_value_length(s.head_dim)
    w.add_rope_dimension_count(s.head_dim)
    w.add_rope_freq_base(s.rope_base)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(tok.pre)
    w.add_token_list(tok.tokens)
    w.add_token_types([TokenType.CONTROL if i in tok.control else TokenType.NORMAL for i in range(vocab)])
    w.add_token_merges(tok.merges)
    w.add_bos_token_id(tok.tokens.index(tok.bos))
    w.add_eos_token_id(tok.tokens.index(tok.eos))
    w.add_eot_token_id(tok.tokens.index(tok.eot))
    w.add_add_bos_token(tok.add_bos)
    w.add_chat_template(tok.template if args.chat_template is None else args.chat_template)

    # Tensors are announced first and written one by one: none but the current is in memory.
    bytes_of = lambda ty, n: n // GGML_QUANT_SIZES[ty][0] * GGML_QUANT_SIZES[ty][1]
    if args.rope_freqs or not tiny:
        w.add_tensor_info("rope_freqs.weight", [s.head_dim // 2], np.dtype(np.float32), s.head_dim * 2)
    for name, _ in norms:
        w.add_tensor_info(f"{name}.weight", [s.d], np.dtype(np.float32), s.d * 4)
    for name, t, rows, cols, _ in matrices:
        w.add_tensor_info(f"{name}.weight", [rows, bytes_of(t, cols)], np.dtype(np.uint8), bytes_of(t, rows * cols), t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    if args.rope_freqs or not tiny:
        w.write_tensor_data(rope_factors_llama3(s.rope_base, s.head_dim, s.rope_factor, s.rope_original))
    for _, gain in norms:
        w.write_tensor_data((gain * rng.uniform(0.8, 1.2, s.d)).astype(np.float32))
    for name, t, rows, cols, spread in matrices:
        data = weights(t, rows, cols, spread, rng)
        if name == "token_embd" and args.corrupt is not None:
            data.view(np.float32)[args.corrupt] = np.nan
        w.write_tensor_data(data)
    w.close()


if __name__ == "__main__":
    main()
