#!/usr/bin/env python3
"""Writes tests/fixtures/quant: random blocks of every tensor type, and their weights as PyPI `gguf` computes them.

Usage: pip install gguf numpy && python scripts/make_quant_fixtures.py
"""

from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "quant"
# Byte offsets of the f16 scales within a block.
SCALES = {
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
# One per block: ordinary, the largest and negative, the smallest subnormal, zero (block 3 has -0 as its second scale).
EDGES = [[0.0123, -0.5], [-65504.0, 65504.0], [2.0**-24, -(2.0**-20)], [0.0, -0.0]]
FLOATS = [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 2.0**-14, 2.0**-24, -(2.0**-24), np.inf, -np.inf, 1 / 3]


def blocks_of(ty: T, rng: np.random.Generator) -> np.ndarray:
    """The bytes of four blocks, or of 64 numbers of a plain type."""
    if ty not in SCALES:
        values = np.concatenate([np.array(FLOATS), rng.standard_normal(64 - len(FLOATS))]).astype(np.float32)
        if ty == T.F16:
            return values.astype(np.float16).view(np.uint8)
        if ty == T.BF16:
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return values.view(np.uint8)
    blocks = rng.integers(0, 256, (4, GGML_QUANT_SIZES[ty][1]), dtype=np.uint8)
    for block, edges in zip(blocks, EDGES):
        for at, edge in zip(SCALES[ty], edges):
            block[at : at + 2] = np.array([edge], np.float16).view(np.uint8)
    return blocks.reshape(-1)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240607)
    for ty in [T.F32, T.F16, T.BF16, *SCALES]:
        data = blocks_of(ty, rng)
        (OUT / f"{ty.name}.bin").write_bytes(data.tobytes())
        (OUT / f"{ty.name}.expected.bin").write_bytes(dequantize(data, ty).astype("<f4").tobytes())
    # Ordinary blocks, one of zeros, one whose largest values are equal and opposite, halves that round, and a wide range.
    floats = rng.standard_normal((32, 32)).astype(np.float32)
    floats[1] = 0
    floats[2, :2] = [-4, 4]
    floats[3] = np.arange(32) - 15.5
    floats[4] *= np.float32(10.0) ** rng.integers(-6, 4, 32)
    (OUT / "floats.bin").write_bytes(floats.astype("<f4").tobytes())
    for ty in [T.Q8_0, T.Q4_0]:
        (OUT / f"floats.{ty.name.lower()}.bin").write_bytes(quantize(floats, ty).tobytes())


if __name__ == "__main__":
    main()
