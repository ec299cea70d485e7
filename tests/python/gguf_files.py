"""Adapters in GGUF for tests, by PyPI's gguf package."""
import gguf
import numpy

TENSORS = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight")


def tensors_of(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def write_adapter(path, model, rank, seed, alpha=4.0):
    """A LoRA adapter of random values; returns {name: delta in float64}."""
    random = numpy.random.default_rng(seed)
    architecture = gguf.GGUFReader(model).fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    deltas = {}
    model_tensors = tensors_of(model)
    for name in TENSORS:
        n_in, n_out = (int(side) for side in model_tensors[name].shape)
        a = random.standard_normal((rank, n_in)).astype(numpy.float32)
        b = random.standard_normal((n_out, rank)).astype(numpy.float32)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
        deltas[name] = alpha / rank * b.astype(numpy.float64) @ a.astype(numpy.float64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return deltas
