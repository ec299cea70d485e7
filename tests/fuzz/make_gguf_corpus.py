#!/usr/bin/env python3
"""make_gguf_corpus.py: writes the seeds of fuzz_gguf into tests/fuzz/corpus/gguf.

Small GGUF files by the specification, valid and nearly so. The last byte of each is the exponent
of what the file claims to be longer than it is (see fuzz_gguf.c).
"""
import struct
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?",
        U64: "Q", I64: "q", F64: "d"}


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def item(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + PACK[kind], value)


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + item(kind, value)


def array(key, kind, values):
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(item(kind, value) for value in values)


def tensor(name, dims, kind, offset):
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text(name) + shape + struct.pack("<IQ", kind, offset)


def file(keys=(), tensors=(), version=3, claim=20):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    return head + b"".join(keys) + b"".join(tensors) + bytes([claim])


def model(arch, tokens, extra=(), tokenizer="gpt2", heads=None):
    keys = [
        entry("general.architecture", STRING, arch),
        entry("general.type", STRING, "model"),
        entry(f"{arch}.block_count", U32, 2),
        entry(f"{arch}.context_length", U32, 64),
        entry(f"{arch}.embedding_length", U32, 32),
        array(f"{arch}.attention.head_count", U32, heads or [2, 2]),
        entry(f"{arch}.attention.head_count_kv", U32, 1),
        entry("tokenizer.ggml.model", STRING, tokenizer),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", I32, [1] * len(tokens)),
        array("tokenizer.ggml.scores", F32, [0.5] * len(tokens)),
        entry("tokenizer.ggml.bos_token_id", U32, 1),
        entry("tokenizer.ggml.eos_token_id", U32, 2),
        entry("tokenizer.ggml.add_bos_token", BOOL, True),
        *extra,
    ]
    return file(keys, [tensor("token_embd.weight", [32, len(tokens)], 2, 0)])


def seeds():
    letters = ["<unk>", "<s>", "</s>", "a", "b", "", ""]
    every = [entry(f"k{kind}", kind, 1) for kind in PACK] + [entry("s", STRING, "text")]
    lists = [array(f"a{kind}", kind, [1, 0]) for kind in PACK] + [array("s", STRING, ["x", ""])]
    numbers = [n for n in range(43) if n not in (4, 5, 31, 32, 33, 36, 37, 38)]
    sizes = {0: 1024, 1: 512, 2: 144, 12: 144}
    yield "empty", file()
    yield "version2", file([entry("k", U8, 1)], version=2)
    yield "version4", file(version=4)
    yield "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + b"\0"
    yield "values", file(every)
    yield "arrays", file(lists)
    yield "nested", file([text("n") + struct.pack("<IIQ", ARRAY, ARRAY, 1)])
    yield "aligned", file([entry("general.alignment", U32, 64)],
                          [tensor("t", [3], 0, 0), tensor("u", [3], 0, 64)])
    for number in numbers:
        second = tensor("u", [256, 1, 1, 1], number, sizes.get(number, 256))
        yield f"type{number}", file((), [tensor("t", [256], number, 0), second])
    yield "duplicate", file([entry("k", U8, 1), entry("k", U8, 1)])
    yield "huge", file((), [tensor("t", [1 << 62, 4], 0, 0)], claim=47)
    yield "gpt2", model("gpt2", letters)
    yield "experts", model("olmoe", letters, [
        entry("olmoe.expert_count", U32, 4), entry("olmoe.expert_used_count", U32, 2),
        entry("olmoe.expert_group_count", U32, 2), entry("olmoe.expert_group_used_count", U32, 1)])
    yield "rope", model("llama", letters, [
        entry("llama.rope.dimension_count", U32, 16), entry("llama.rope.freq_base", F32, 1e4),
        entry("llama.rope.scaling.type", STRING, "yarn"),
        entry("llama.attention.key_length", U32, 16),
        entry("llama.attention.value_length", U32, 16),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)])
    yield "ssm", model("mamba2", letters, [
        entry("mamba2.ssm.conv_kernel", U32, 4), entry("mamba2.ssm.inner_size", U32, 64),
        entry("mamba2.ssm.state_size", U32, 16), entry("mamba2.ssm.group_count", U32, 2),
        entry("mamba2.ssm.time_step_rank", U32, 4)], heads=[0, 0])
    yield "split", file([entry("split.no", U16, 0), entry("split.count", U16, 2)])
    pieces = letters[:3] + [f"<0x{byte:02X}>" for byte in range(256)]
    yield "llama", model("llama", pieces, tokenizer="llama")


def main():
    folder = Path(__file__).parent / "corpus" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
