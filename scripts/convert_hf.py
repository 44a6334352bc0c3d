#!/usr/bin/env python3
"""Writes a Hugging Face folder's float32 weights as a GGUF, as llama.cpp's converter does: names, keys, row order of q and k.

Usage: pip install gguf numpy && python scripts/convert_hf.py FOLDER OUT.gguf

For the tests' tiny models, which have no tokenizer: the GGUF gets the byte-level one of make_model.py, cut to their
vocabulary. Architectures: those of crate/src/model/arch.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType, TokenType

from make_model import rope_factors_llama3, tiny_tokenizer

# Hugging Face's model_type: GGUF's architecture.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3", "phi3": "phi3",
    "smollm3": "smollm3", "granite": "granite", "olmo2": "olmo2",
}
# Whose q and k the converter puts in the order in which neighbours turn together.
PERMUTED = {"llama", "smollm3", "granite"}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors, which must be F32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, info in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        assert info["dtype"] == "F32", f"{name} is {info['dtype']}; only F32 is converted"
        begin, end = info["data_offsets"]
        tensors[name] = np.frombuffer(data[start + begin : start + end], np.float32).reshape(info["shape"])
    return tensors


def gguf_name(name: str, arch: str) -> str:
    """The GGUF name of a tensor."""
    stem, _, end = name.rpartition(".")
    if layer := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem):
        number, stem = layer.groups()
        # Before the feed-forward where no norm is named so; else after the attention.
        after = "post_attention_norm" if arch in ("gemma3", "olmo2") else "ffn_norm"
        return f"blk.{number}.{after if stem == 'post_attention_layernorm' else NAMES[stem]}.{end}"
    return f"{NAMES[stem]}.{end}"


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows i and i + half of each head side by side."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_rope(w: GGUFWriter, arch: str, config: dict, head_dim: int) -> None:
    rope = config["rope_parameters"]
    full = rope.get("full_attention", rope)
    w.add_rope_freq_base(full["rope_theta"])
    w.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if full["rope_type"] == "linear":
        w.add_rope_scaling_type(RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(full["factor"])
    if full["rope_type"] == "llama3":
        factors = rope_factors_llama3(
            full["rope_theta"], head_dim, full["factor"], full["original_max_position_embeddings"],
            full["low_freq_factor"], full["high_freq_factor"],
        )
        w.add_tensor("rope_freqs.weight", factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out")
    args = parser.parse_args()
    config = json.loads((args.folder / "config.json").read_text())
    tensors = read_safetensors(args.folder / "model.safetensors")
    arch = ARCHITECTURES[config["model_type"]]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    vocab = config["vocab_size"]

    w = GGUFWriter(args.out, arch)
    w.add_name(args.folder.resolve().name)
    w.add_vocab_size(vocab)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    write_rope(w, arch, config, head_dim)
    if config.get("sliding_window"):
        w.add_sliding_window(config["sliding_window"])
    if arch == "gemma3":
        w.add_sliding_window_pattern(config["layer_types"].index("full_attention") + 1)
    if arch == "granite":
        w.add_embedding_scale(config["embedding_multiplier"])
        w.add_residual_scale(config["residual_multiplier"])
        w.add_attention_scale(config["attention_multiplier"])
        w.add_logit_scale(config["logits_scaling"])

    tok = tiny_tokenizer()
    tokens = tok.tokens[:vocab]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(tok.pre)
    w.add_token_list(tokens)
    w.add_token_types([TokenType.CONTROL if i in tok.control else TokenType.NORMAL for i in range(vocab)])
    w.add_token_merges([merge for merge in tok.merges if merge.replace(" ", "") in tokens])
    w.add_eos_token_id(config["eos_token_id"])

    for name, values in sorted(tensors.items()):
        if arch in PERMUTED and re.search(r"self_attn\.[qk]_proj", name):
            values = neighbours(values, heads if "q_proj" in name else kv_heads)
        if arch == "gemma3" and name.endswith("norm.weight"):
            values = values + 1
        w.add_tensor(gguf_name(name, arch), np.ascontiguousarray(values))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
