"""`hyprstream adapter merge` against numpy, on files of PyPI's gguf package."""
import gguf
import numpy
import pytest

from gguf_files import TENSORS, tensors_of, write_adapter


def read_adapter(path):
    """{name: delta}, by the rules of llama.cpp."""
    reader = gguf.GGUFReader(path)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    tensors = {tensor.name: tensor.data.astype(numpy.float64) for tensor in reader.tensors}
    found = {}
    for name in {tensor.rsplit(".", 1)[0] for tensor in tensors}:
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        found[name] = (alpha / len(a) if alpha else 1) * b @ a
    return found


@pytest.fixture
def pair(say, tmp_path):
    """Two adapters of different ranks: --adapter arguments, and what they add up to."""
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    first, second = write_adapter(one, say, 3, 1), write_adapter(two, say, 2, 2)
    total = {name: 0.7 * first[name] - 0.4 * second[name] for name in TENSORS}
    return ("--adapter", f"{one}:0.7", "--adapter", f"{two}:-0.4", "--model", say), total


def test_sum(hs, pair, tmp_path):
    adapters, total = pair
    for method, more in (("cat", ()), ("svd", ("--rank", 5))):
        out = tmp_path / f"{method}.gguf"
        said = hs.ok("adapter", "merge", method, *adapters, *more, "--type", "F32", "--output", out,
                     "--json").json
        assert said["rank"] == 5 and said["relative_error"] < 1e-6
        for name, delta in read_adapter(out).items():
            numpy.testing.assert_allclose(delta, total[name], atol=1e-5 * abs(total[name]).max())


def test_rank(hs, pair, tmp_path):
    adapters, total = pair
    out = tmp_path / "cut.gguf"
    said = hs.ok("adapter", "merge", "svd", *adapters, "--rank", 2, "--output", out, "--json").json
    errors = {target["tensor"]: target["relative_error"] for target in said["targets"]}
    for name, delta in total.items():
        u, s, v = numpy.linalg.svd(delta, full_matrices=False)
        best = (u[:, :2] * s[:2]) @ v[:2]
        numpy.testing.assert_allclose(read_adapter(out)[name], best, atol=3e-3 * abs(best).max())
        wanted = numpy.linalg.norm(s[2:]) / numpy.linalg.norm(s)
        assert errors[name] == pytest.approx(wanted, rel=1e-6)


def test_into_model(hs, say, pair, tmp_path):
    adapters, total = pair
    out = tmp_path / "merged.gguf"
    hs.ok("adapter", "merge", "cat", *adapters, "--into-model", out)
    before, after = tensors_of(say), tensors_of(out)
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert after[name].tensor_type == tensor.tensor_type
        if name not in total:
            assert (after[name].data == tensor.data).all()
            continue
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type) + total[name]
        got = gguf.quants.dequantize(after[name].data, after[name].tensor_type)
        numpy.testing.assert_allclose(got, wanted, atol=1e-2 * abs(wanted).max())
    assert "with cat of" in gguf.GGUFReader(out).fields["general.name"].contents()


def test_into_the_list(hs, say, pair):
    adapters, _ = pair
    hs.ok("adapter", "merge", "dare_ties_svd", *adapters, "--density", 0.5, "--seed", 3, "--name",
          "both")
    first = hs.ok("adapter", "show", "both", "--json").json
    hs.ok("adapter", "merge", "dare_ties_svd", *adapters, "--density", 0.5, "--seed", 3, "--name",
          "again", "--threads", 2)
    again = hs.ok("adapter", "show", "again", "--json").json
    assert first["rank"] == 3 and first["description"].startswith("dare_ties_svd of ")
    assert again["rank"] == 3
    hs.ok("adapter", "merge", "slerp", "--adapter", "both", "--adapter", "again", "--model", say,
          "--t", 0.25, "--name", "between")
    assert hs.ok("adapter", "show", "between", "--json").json["parents"] == ["both@1", "again@1"]
