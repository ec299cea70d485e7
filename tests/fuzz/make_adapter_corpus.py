#!/usr/bin/env python3
"""make_adapter_corpus.py: writes the seeds of fuzz_adapter into tests/fuzz/corpus/adapter."""
import json
import struct
from pathlib import Path

KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_%s.weight"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none",
          "target_modules": ["q_proj", "lm_head"]}


def tensors(header, data, pad=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text + pad)) + text + pad + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(kind, parts):
    """An adapter in GGUF; parts: (name, type, dims, data)."""
    keys = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": kind}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(parts), len(keys))
    for key, value in keys.items():
        head += text(key) + struct.pack("<I", 8) + text(value)
    data = b""
    for name, number, dims, values in parts:
        head += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        head += struct.pack("<IQ", number, len(data))
        data += values + bytes(-len(values) % 32)
    return head + bytes(-len(head) % 32) + data


def sparse(rows=(0, 1, 2), columns=(1, 0), shape=(4, 4)):
    """Two blocks of 2 x 2 in a matrix of 4 x 4."""
    name = "blk.0.attn_q.weight.sparse_"
    return gguf("sparse", [
        (name + "shape", 27, [len(shape)], struct.pack(f"<{len(shape)}q", *shape)),
        (name + "rows", 27, [len(rows)], struct.pack(f"<{len(rows)}q", *rows)),
        (name + "columns", 26, [len(columns)], struct.pack(f"<{len(columns)}i", *columns)),
        (name + "values", 0, [2, 2, 2], struct.pack("<8f", *range(8)))])


def seeds():
    yield "lora.gguf", gguf("lora", [
        ("blk.0.attn_q.weight.lora_a", 1, [4, 2], bytes(16)),
        ("blk.0.attn_q.weight.lora_b", 30, [2, 4], bytes(16))])
    yield "q8.gguf", gguf("lora", [
        ("blk.0.attn_q.weight.lora_a", 8, [32, 1], bytes(34)),
        ("blk.0.attn_q.weight.lora_b", 0, [1, 4], bytes(16))])
    yield "sparse.gguf", sparse()
    yield "sparse-columns.gguf", sparse(columns=(1, 2))
    yield "sparse-rows.gguf", sparse(rows=(0, 3, 2))
    yield "sparse-shape.gguf", sparse(shape=(1 << 40, -4))
    pair = {"__metadata__": {"format": "pt"}, KEY % "A": entry("F32", [2, 2], 0, 16),
            KEY % "B": entry("F16", [2, 2], 16, 24)}
    yield "pair", tensors(pair, bytes(24), b"   ")
    yield "empty.tensors", tensors({}, b"")
    yield "scalar", tensors({"s": entry("BF16", [], 0, 2), "z": entry("I64", [0], 2, 2)}, b"ab")
    yield "hole", tensors({"s": entry("U8", [1], 1, 2)}, b"ab")
    yield "overlap", tensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"abc")
    yield "huge", struct.pack("<Q", 1 << 60) + b"{}"
    yield "wide", tensors({"a": entry("F64", [1 << 32, 1 << 32, 2], 0, 0)}, b"")
    yield "deep", tensors(b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", b"")
    yield "unicode", tensors(b'{"\\ud83d\\ude00\\u00e9":{"dtype":"U8","shape":[],'
                             b'"data_offsets":[0,1]}}', b"x")
    yield "list.json", json.dumps(CONFIG).encode()
    yield "regex.json", json.dumps({**CONFIG, "target_modules": r"model\.layers\.\d+\..*_proj",
                                    "use_rslora": True}).encode()
    yield "patterns.json", json.dumps(
        {**CONFIG, "rank_pattern": {"q_proj": 8, r"layers\.(0|1)\..*": 4},
         "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 1.5, "(?:k|v)_proj(?!x)": 3},
         "layers_to_transform": [0, 1], "layers_pattern": ["layers", "h"]}).encode()
    yield "alternative.json", json.dumps(
        {**CONFIG, "layers_to_transform": [0], "layers_pattern": ["|layers"]}).encode()
    yield "slow.json", json.dumps({**CONFIG, "target_modules": "(.*.*.*)*x"}).encode()
    yield "refused.json", json.dumps({**CONFIG, "use_dora": True, "bias": "all",
                                      "modules_to_save": ["lm_head"]}).encode()


def main():
    folder = Path(__file__).resolve().parent / "corpus" / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
