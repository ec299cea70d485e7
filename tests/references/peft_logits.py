#!/usr/bin/env python3
"""Writes ../data/peft: adapters as PEFT saves them, and the logits that transformers gives.

    peft_logits.py

Tiny models with random weights (torch seeds below), each as a GGUF file that is put together here
from the checkpoint's tensors, and for each model adapters of several kinds. Beside each adapter,
and for each model, f32[2, 64]: the logits behind the last token of each of PROMPTS. Everything is
computed in float32. Read by tests/runtime/test_peft_reference.c.

Written with Python 3.11, torch 2.15.0, transformers 5.23.0, PEFT 0.21.2, safetensors 0.8, gguf
0.19.0.
"""
import json
import shutil
from pathlib import Path

import gguf
import torch
import transformers as hf
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

OUT = Path(__file__).resolve().parent.parent / "data" / "peft"
N_VOCAB, N_EMBD, N_FF, N_HEAD, N_KV, HEAD, N_LAYER = 64, 32, 48, 4, 2, 8, 2
PROMPTS = [[1, 5, 9, 33, 17, 60, 2, 44], [1, 63, 40, 3, 3, 21, 58, 7, 11, 30, 62, 19]]
WORDS = ["<pad>", "<s>", "</s>", "\u010a", "\u0120", "ab"]  # a newline and a space among them
WORDS += [chr(c) for c in range(ord("A"), ord("A") + N_VOCAB - len(WORDS))]
SIZES = {"vocab_size": N_VOCAB, "hidden_size": N_EMBD, "intermediate_size": N_FF,
         "num_attention_heads": N_HEAD, "num_key_value_heads": N_KV, "head_dim": HEAD,
         "num_hidden_layers": N_LAYER, "max_position_embeddings": 128, "pad_token_id": 0,
         "tie_word_embeddings": False, "attn_implementation": "eager"}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_llama():
    return hf.LlamaForCausalLM(hf.LlamaConfig(rope_parameters=ROPE, **SIZES))


def make_qwen3():
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(rope_parameters=ROPE, **SIZES))


def make_gemma3():
    rope = {"full_attention": ROPE, "sliding_attention": ROPE}
    return hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(
        rope_parameters=rope, query_pre_attn_scalar=HEAD, sliding_window=64, **SIZES))


def make_phi3():
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    return hf.Phi3ForCausalLM(hf.Phi3Config(rope_parameters=ROPE, sliding_window=64, **sizes))


def make_gpt2():
    return hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=N_VOCAB, n_embd=N_EMBD, n_inner=4 * N_EMBD, n_head=N_HEAD, n_layer=N_LAYER,
        n_positions=128, attn_implementation="eager"))


# (class, adapters); an adapter: name, type it is saved in, PEFT's settings.
MODELS = {
    "llama": (make_llama, [
        ("rslora", torch.float32, dict(r=4, lora_alpha=6, use_rslora=True, target_modules=LINEAR)),
        ("words", torch.float32, dict(r=2, lora_alpha=3,
                                      target_modules=["embed_tokens", "lm_head", "k_proj"])),
    ]),
    "qwen3": (make_qwen3, [
        ("patterns", torch.bfloat16, dict(
            r=3, lora_alpha=6, target_modules=r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj",
            rank_pattern={"q_proj": 5, r"layers\.1\.mlp\..*": 2},
            alpha_pattern={"v_proj": 9, "layers.0.mlp.up_proj": 1, ".*mlp.up_proj": 4})),
    ]),
    "gemma3": (make_gemma3, [
        ("layers", torch.float16, dict(r=4, lora_alpha=8, target_modules=LINEAR,
                                       layers_to_transform=[1], layers_pattern="layers")),
        ("words", torch.float32, dict(r=2, lora_alpha=2,
                                      target_modules=["embed_tokens", "o_proj"])),
    ]),
    "phi3": (make_phi3, [
        ("fused", torch.float32, dict(r=4, lora_alpha=4, target_modules="all-linear")),
    ]),
    "gpt2": (make_gpt2, [
        ("conv1d", torch.float32, dict(r=4, lora_alpha=4, fan_in_fan_out=True,
                                       target_modules=["c_attn", "c_proj", "c_fc"])),
    ]),
}


def randomize(model):
    """Weights large enough that prompts, layers and adapters all show in the logits."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() == 1:
                value.copy_(torch.randn_like(value) * 0.1 + (0 if "bias" in name else value.mean()))
            else:
                value.copy_(torch.randn_like(value) * value.shape[-1] ** -0.5)


def logits(model):
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([p]), use_cache=False).logits[0, -1] for p in PROMPTS]
    return torch.stack(rows).float().numpy()


# ---- GGUF ----

RENAMED = [("model.layers.", "blk."), ("transformer.h.", "blk."),
           ("model.embed_tokens", "token_embd"), ("transformer.wte", "token_embd"),
           ("transformer.wpe", "position_embd"), ("transformer.ln_f", "output_norm"),
           ("model.norm", "output_norm"), ("lm_head", "output"),
           ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
           ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
           ("self_attn.qkv_proj", "attn_qkv"), ("self_attn.q_norm", "attn_q_norm"),
           ("self_attn.k_norm", "attn_k_norm"), ("mlp.gate_up_proj", "ffn_up"),
           ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
           ("input_layernorm", "attn_norm"), ("pre_feedforward_layernorm", "ffn_norm"),
           ("post_feedforward_layernorm", "post_ffw_norm"), ("attn.c_attn", "attn_qkv"),
           ("attn.c_proj", "attn_output"), ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down"),
           ("ln_1", "attn_norm"), ("ln_2", "ffn_norm")]


def tensor_of(arch, name, value):
    """Name and values as llama.cpp's converter writes them."""
    new = name
    for old, text in RENAMED:
        new = new.replace(old, text)
    post = "post_attention_norm" if arch == "gemma3" else "ffn_norm"
    new = new.replace("post_attention_layernorm", post)
    if arch == "llama" and (".attn_q." in new or ".attn_k." in new):  # halves interleaved
        heads = value.shape[0] // HEAD
        value = value.reshape(heads, 2, HEAD // 2, -1).swapaxes(1, 2).reshape(value.shape)
    if arch == "gemma3" and "norm" in new:
        value = value + 1
    if ".c_" in name and name.endswith("weight"):  # Conv1D lies across
        value = value.T
    return new, value.contiguous().numpy()


def write_gguf(arch, model, path):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(N_LAYER)
    writer.add_context_length(128)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(4 * N_EMBD if arch == "gpt2" else N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3 if word.startswith("<") else 1 for word in WORDS])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if arch == "gpt2":
        writer.add_layer_norm_eps(model.config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(N_KV)
        writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(HEAD)
        writer.add_key_length(HEAD)
        writer.add_value_length(HEAD)
    if arch in ("gemma3", "phi3"):
        writer.add_sliding_window(64)
    for name, value in model.state_dict().items():
        if arch == "gpt2" and name.startswith("lm_head"):
            continue  # tied
        writer.add_tensor(*tensor_of(arch, name, value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- adapters ----

def write_adapter(make, state, folder, dtype, settings):
    model = make()
    model.load_state_dict(state)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings))
    model.base_model.model.config._name_or_path = "tiny"
    torch.manual_seed(100 + len(folder.name))
    named = [(n, p) for n, p in model.named_parameters() if "lora_" in n]
    with torch.no_grad():
        for name, value in named:
            scale = 0.4 if "B" in name.split("lora_")[1] else value.shape[-1] ** -0.5
            value.copy_((torch.randn_like(value) * scale).to(dtype).float())
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT keeps a set, whose order differs each time
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    weights = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(weights).items()}, weights,
              metadata={"format": "pt"})
    weights.chmod(0o644)
    base = make()
    base.load_state_dict(state)
    again = PeftModel.from_pretrained(base, folder).eval()  # what the files say, and nothing else
    logits(again).tofile(folder / "logits.f32")
    print(folder.name, len(named), config["r"])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for arch, (make, adapters) in MODELS.items():
        torch.manual_seed(1 + len(arch))
        model = make().float().eval()
        randomize(model)
        write_gguf(arch, model, OUT / f"{arch}.gguf")
        logits(model).tofile(OUT / f"{arch}.f32")
        for name, dtype, settings in adapters:
            write_adapter(lambda: make().float().eval(), model.state_dict(),
                          OUT / f"{arch}-{name}", dtype, settings)


if __name__ == "__main__":
    main()
