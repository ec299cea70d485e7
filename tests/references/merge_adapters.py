#!/usr/bin/env python3
"""Writes ../data/merge_cases.bin, for test_merge_peft.c: what PEFT and mergekit make of adapters.

    merge_adapters.py FOLDER_OF_REAL_ADAPTERS

The folder holds `json` and `pirate`, two adapters of Gemma 3 270M as PEFT saves them. The others
are random (numpy's default_rng with the seeds below). PEFT's own LoraModel.add_weighted_adapter
runs on a small torch model in float64; of mergekit its functions sparsify and slerp, combined as
its GeneralizedTaskArithmeticMerge does. Two things are put in their place, since both are free:
torch.bernoulli draws the numbers of src/adapters/merge_keep.h, and of equal values torch.topk
takes those behind first.

Written with Python 3.11, torch 2.15.0, PEFT 0.21.2, transformers 5.23.0, mergekit 0.1.5, NumPy
2.4.6, safetensors 0.8. Layout of the file: see test_merge_peft.c.
"""
import importlib.util
import json
import pathlib
import struct
import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from safetensors import safe_open

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "data" / "merge_cases.bin"
MASK64 = (1 << 64) - 1
N_PROJECTIONS = 3
REAL_TARGETS = {
    "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj",
    "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj",
    "blk.17.attn_v.weight": "model.layers.17.self_attn.v_proj",
}


def load_mergekit(name, path):
    """One file of mergekit, without the packages that the others need."""
    root = pathlib.Path(importlib.util.find_spec("mergekit").submodule_search_locations[0])
    source = (root / path).read_text()
    module = {}
    if name == "slerp":  # the function alone
        source = source[:source.index("@merge_method(")]
        source = source[source.index("# Bound full-precision"):]
        module["torch"] = torch
    exec(compile(source, str(root / path), "exec"), module)  # pylint: disable=exec-used
    return module


# ---- random numbers and ties ----

def mix(z):
    z = np.atleast_1d(np.asarray(z, dtype=np.uint64))  # arrays wrap around in silence
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    return z ^ (z >> np.uint64(31))


class Numbers:
    """torch.bernoulli as merge_keep.h has it; `queue` says for which matrix each call is."""

    def __init__(self):
        self.queue = []

    def bernoulli(self, probabilities):
        seed, tensor, adapter, part, transpose = self.queue.pop(0)
        hashed = 0xcbf29ce484222325
        for byte in tensor.encode():
            hashed = ((hashed ^ byte) * 0x100000001b3) & MASK64
        stream = mix(seed ^ int(mix((hashed + 4 * adapter + part) & MASK64)[0]))
        p = probabilities.detach().numpy().astype(np.float64)
        p = p.T if transpose else p
        with np.errstate(over="ignore"):
            position = np.arange(1, p.size + 1, dtype=np.uint64)
            drawn = mix(stream + position * np.uint64(0x9e3779b97f4a7c15))
        number = (drawn >> np.uint64(11)).astype(np.float64) / 2.0**53
        mask = (number.reshape(p.shape) < p).astype(np.float64)
        return torch.from_numpy(np.ascontiguousarray(mask.T if transpose else mask)).to(
            probabilities.dtype)


def stable_topk(values, k, largest=True):
    assert largest and values.dim() == 1
    order = torch.sort(values, stable=True).indices
    index = order[values.numel() - k:]
    return values[index], index


# ---- adapters ----

def random_adapter(rng, shapes, alpha, dtype):
    """{tensor: (A [r, n_in], B [n_out, r], scale)}; an embedding has lora_embedding_A [r, words]"""
    adapter = {}
    for tensor, (n_out, n_in, rank, is_embedding) in shapes.items():
        a = rng.standard_normal((rank, n_in)).astype(dtype)
        b = (rng.standard_normal((n_out, rank)) * 0.3).astype(dtype)
        adapter[tensor] = (a, b, alpha / rank, is_embedding)
    return adapter


def real_adapter(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    adapter = {}
    with safe_open(folder / "adapter_model.safetensors", "np") as weights:
        for tensor, module in REAL_TARGETS.items():
            key = f"base_model.model.{module}.lora_%s.weight"
            adapter[tensor] = (weights.get_tensor(key % "A"), weights.get_tensor(key % "B"), scale,
                               False)
    return adapter


def module_name(tensor):
    return tensor.replace(".", "_")


def peft_model(adapters):
    """A torch model with a layer for each target, and the adapters on it."""
    layers = {}
    for adapter in adapters:
        for tensor, (a, b, _, is_embedding) in adapter.items():
            layers[module_name(tensor)] = (
                torch.nn.Embedding(a.shape[1], b.shape[0]) if is_embedding
                else torch.nn.Linear(a.shape[1], b.shape[0], bias=False))
    model = torch.nn.ModuleDict(layers).double()
    peft = None
    for i, adapter in enumerate(adapters):
        ranks = {module_name(t): v[0].shape[0] for t, v in adapter.items()}
        alphas = {module_name(t): v[2] * v[0].shape[0] for t, v in adapter.items()}
        config = LoraConfig(r=max(ranks.values()), lora_alpha=1, target_modules=list(ranks),
                            rank_pattern=ranks if len(set(ranks.values())) > 1 else {},
                            alpha_pattern=alphas)
        if peft is None:
            peft = get_peft_model(model, config, adapter_name=str(i), autocast_adapter_dtype=False)
        else:
            peft.add_adapter(str(i), config)
        for tensor, (a, b, _, is_embedding) in adapter.items():
            layer = peft.base_model.model[module_name(tensor)]
            wide = [torch.from_numpy(x.astype(np.float64)) for x in (a, b)]
            if is_embedding:
                layer.lora_embedding_A[str(i)] = torch.nn.Parameter(wide[0])
                layer.lora_embedding_B[str(i)] = torch.nn.Parameter(wide[1])
            else:
                layer.lora_A[str(i)].weight = torch.nn.Parameter(wide[0])
                layer.lora_B[str(i)].weight = torch.nn.Parameter(wide[1])
    return peft


def queue_of(case, adapters, tensor):
    """The calls of torch.bernoulli for one target, in PEFT's order."""
    with_target = [i for i in case["inputs"] if tensor in adapters[i]]
    places = [case["inputs"].index(i) for i in with_target]
    is_embedding = adapters[with_target[0]][tensor][3]
    if case["method"].endswith("_svd"):
        return [(case["seed"], tensor, place, 0, False) for place in places]
    return [(case["seed"], tensor, place, part, is_embedding and part == 1)
            for part in (1, 2) for place in places]


def run_peft(case, adapters, numbers):
    peft = peft_model(adapters)
    targets = [t for t in dict.fromkeys(t for i in case["inputs"] for t in adapters[i])]
    layers = {module_name(t): t for t in targets}
    numbers.queue = []
    if "dare" in case["method"] and len(case["inputs"]) > 1 and case["density"] < 1:
        for name, _ in peft.base_model.model.named_modules():
            if name in layers:
                numbers.queue += queue_of(case, adapters, layers[name])
    kwargs = {}
    if case["rank"]:
        kwargs["svd_rank"] = case["rank"]
    peft.base_model.add_weighted_adapter(
        [str(i) for i in case["inputs"]], case["weights"], "merged",
        combination_type=case["method"], density=case["density"],
        majority_sign_method=("total", "frequency")[case["majority"]], **kwargs)
    assert not numbers.queue
    result = {}
    for tensor in targets:
        layer = peft.base_model.model[module_name(tensor)]
        result[tensor] = layer.get_delta_weight("merged").detach().numpy()
    return result


# ---- mergekit ----

def delta_of(adapter, tensor):
    a, b, scale, is_embedding = adapter[tensor]
    delta = scale * (b.astype(np.float64) @ a.astype(np.float64))
    return delta.T.copy() if is_embedding else delta


def truncate(delta, rank):
    u, s, v = np.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def run_mergekit(case, adapters, numbers, mergekit):
    sparse, slerp = mergekit
    result = {}
    weights = np.array(case["weights"])
    for tensor in dict.fromkeys(t for i in case["inputs"] for t in adapters[i]):
        places = [k for k, i in enumerate(case["inputs"]) if tensor in adapters[i]]
        deltas = [torch.from_numpy(delta_of(adapters[case["inputs"][k]], tensor)) for k in places]
        w = weights[places][:, None, None]
        if case["method"] == "slerp":
            t = torch.tensor([case["t"]], dtype=torch.float64)
            ends = [(weights[k] * d)[None] for k, d in zip(places, deltas)]
            merged = slerp["slerp"](t, ends[0], ends[1])[0].numpy()
        elif case["method"] == "breadcrumbs":
            kept = [sparse["magnitude_outliers"](d, case["density"], gamma=case["gamma"])
                    for d in deltas]
            merged = (np.stack([k.numpy() for k in kept]) * w).sum(0)
        elif case["method"] == "della":
            numbers.queue = [(case["seed"], tensor, k, 0, False) for k in places]
            kept = [sparse["della_magprune"](d, case["density"], case["epsilon"],
                                             sparse["RescaleNorm"].l1) for d in deltas]
            stacked = np.stack([k.numpy() for k in kept]) * w
            majority = np.where(stacked.sum(0) >= 0, 1, -1)
            mask = np.sign(stacked) == majority
            divisor = (w * mask).sum(0)
            merged = (stacked * mask).sum(0) / np.where(divisor == 0, 1, divisor)
        else:
            merged = (np.stack([d.numpy() for d in deltas]) * w).sum(0)
        rank = case["rank"] or max(v[0].shape[0] for i in case["inputs"]
                                   for v in adapters[i].values())
        result[tensor] = truncate(merged, rank)
    return result


# ---- the file ----

def projections(n_cols):
    """f64[N_PROJECTIONS, n_cols], numbers that the test makes too."""
    state = 1
    values = np.empty(N_PROJECTIONS * n_cols)
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        values[i] = (state >> 8) / 2.0**23 - 1
    return values.reshape(N_PROJECTIONS, n_cols)


def put_text(text):
    return text.encode().ljust(64, b"\0")


def put_adapter(adapter):
    out = struct.pack("<I", len(adapter))
    for tensor, (a, b, scale, is_embedding) in adapter.items():
        is_half = a.dtype == np.float16
        out += put_text(tensor) + struct.pack("<5If", b.shape[0], a.shape[1], a.shape[0],
                                              is_embedding, is_half, scale)
        out += (a.T if is_embedding else a).copy().tobytes() + b.tobytes()
    return out


def put_case(case, result):
    out = struct.pack("<I", case["set"]) + put_text(case["method"])
    out += struct.pack("<I", len(case["inputs"])) + struct.pack(
        f"<{len(case['inputs'])}I", *case["inputs"])
    out += struct.pack(f"<{len(case['weights'])}d", *case["weights"])
    out += struct.pack("<4d", case["density"], case["gamma"], case["epsilon"], case["t"])
    out += struct.pack("<IIQ", case["majority"], case["rank"], case["seed"])
    out += struct.pack("<I", len(result))
    for tensor, delta in result.items():
        is_projected = delta.size > 2000
        values = delta @ projections(delta.shape[1]).T if is_projected else delta
        out += put_text(tensor) + struct.pack("<3I", *delta.shape, is_projected)
        out += values.astype("<f4").tobytes()
    return out


FACTOR_METHODS = ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
DELTA_METHODS = ["svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"]
MERGEKIT_METHODS = ["task_arithmetic", "breadcrumbs", "della", "slerp"]


def cases_of(number, is_real):
    def case(method, inputs, weights, **more):
        values = {"set": number, "method": method, "inputs": inputs, "weights": weights,
                  "density": 0.5, "gamma": 0.05, "epsilon": 0.15, "t": 0.3, "majority": 0,
                  "rank": 0, "seed": 42}
        values.update(more)
        return values

    methods = ["cat", *([] if number == 1 else FACTOR_METHODS), *DELTA_METHODS]
    for method in methods:
        yield case(method, [0, 1], [0.7, 0.6], density=0.4)
        if is_real:
            continue
        yield case(method, [0, 1, 2], [1.0, -0.5, 0.8], density=0.6, seed=7)
        if "ties" in method:
            yield case(method, [2, 0, 1], [1.0, 0.25, 0.5], density=0.8, majority=1)
        if method.endswith("svd"):
            yield case(method, [1, 2], [0.5, 2.0], rank=2)
    yield case("linear", [1], [-0.75])
    for method in MERGEKIT_METHODS:
        yield case(method, [0, 1], [0.7, 0.6])
        if not is_real and method != "slerp":
            yield case(method, [2, 0, 1], [1.0, -0.5, 0.8], density=0.3, rank=5, seed=3)
    if number == 0:
        yield case("slerp", [1, 2], [1.0, -1.0], t=0.9, rank=3)


def main():
    torch.set_num_threads(1)  # sums are cut up by the number of threads, and round as cut
    numbers = Numbers()
    torch.bernoulli = numbers.bernoulli
    merge_utils.torch.topk = stable_topk
    mergekit = (load_mergekit("sparsify", "sparsify.py"),
                load_mergekit("slerp", "merge_methods/slerp.py"))
    folder = pathlib.Path(sys.argv[1])
    equal = {"blk.0.attn_q.weight": (20, 28, 4, 0), "token_embd.weight": (16, 25, 4, 1)}
    mixed = [{"blk.0.attn_q.weight": (20, 28, 4, 0), "blk.0.attn_k.weight": (12, 28, 4, 0)},
             {"blk.0.attn_q.weight": (20, 28, 6, 0), "token_embd.weight": (16, 25, 6, 1)},
             {"blk.0.attn_q.weight": (20, 28, 3, 0), "blk.0.attn_k.weight": (12, 28, 3, 0),
              "token_embd.weight": (16, 25, 3, 1)}]
    rng = np.random.default_rng(20260001)
    sets = [
        [random_adapter(rng, equal, 2.0 * (i + 1), np.float32) for i in range(3)],
        [random_adapter(rng, mixed[i], 8.0, np.float32) for i in range(3)],
        [real_adapter(folder / name) for name in ("json", "pirate")],
    ]
    out = b"HSMERGE1" + struct.pack("<I", len(sets))
    for adapters in sets:
        out += struct.pack("<I", len(adapters)) + b"".join(map(put_adapter, adapters))
    cases = []
    for number, adapters in enumerate(sets):
        for case in cases_of(number, number == 2):
            if number == 1 and case["method"] == "slerp":
                continue  # what slerp makes of a missing end is not mergekit's business
            run = run_mergekit if case["method"] in MERGEKIT_METHODS else None
            result = (run(case, adapters, numbers, mergekit) if run
                      else run_peft(case, adapters, numbers))
            assert all(np.isfinite(d).all() for d in result.values()), case
            cases.append(put_case(case, result))
    OUT.write_bytes(out + struct.pack("<I", len(cases)) + b"".join(cases))
    print(f"{OUT.name}: {len(cases)} cases, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
