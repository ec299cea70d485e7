"""`hyprstream adapter sparsify` against numpy, on files of PyPI's gguf package."""
import gguf
import numpy
import pytest

from gguf_files import write_adapter


def read_sparse(path):
    """{name: (dense matrix, n_blocks)} as docs/formats.md describes the file."""
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "sparse"
    assert len(reader.fields["hyprstream.base_fingerprint"].contents()) == 64
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    found = {}
    for name in {tensor.rsplit(".", 1)[0] for tensor in tensors}:
        n_in, n_out = tensors[f"{name}.sparse_shape"].data
        rows = tensors[f"{name}.sparse_rows"].data
        columns = tensors[f"{name}.sparse_columns"].data
        values = tensors[f"{name}.sparse_values"]
        n_cols, n_rows, n = (int(side) for side in values.shape)
        blocks = values.data.astype(numpy.float64).reshape(n, n_rows, n_cols)
        dense = numpy.zeros((n_out, n_in))
        for row in range(n_out // n_rows):
            for i in range(rows[row], rows[row + 1]):
                column = columns[i]
                dense[row * n_rows:(row + 1) * n_rows, column * n_cols:(column + 1) * n_cols] = \
                    blocks[i]
        assert rows[0] == 0 and rows[-1] == n == len(columns)
        found[name] = dense, n
    return found


def block_norms(matrix, n_rows, n_cols):
    n_out, n_in = matrix.shape
    blocks = matrix.reshape(n_out // n_rows, n_rows, n_in // n_cols, n_cols)
    return numpy.sqrt((blocks ** 2).sum(axis=(1, 3)))


@pytest.mark.parametrize("block, keep, values, rounding", [
    ("16x1", 0.3, "f16", 2.0 ** -11), ("1x1", 0.1, "f32", 2.0 ** -24),
    ("8x4", 1.0, "f16", 2.0 ** -11),
])
def test_largest_blocks(hs, say, tmp_path, block, keep, values, rounding):
    adapter, sparse = tmp_path / "lora.gguf", tmp_path / "sparse.gguf"
    deltas = write_adapter(adapter, say, 3, 1)
    n_rows, n_cols = (int(side) for side in block.split("x"))
    said = hs.ok("adapter", "sparsify", adapter, sparse, "--model", say, "--keep", keep,
                 "--block", block, "--values", values, "--json").json
    kept = read_sparse(sparse)
    assert kept.keys() == deltas.keys()
    lost = whole = 0
    for name, delta in deltas.items():
        dense, n = kept[name]
        norms = block_norms(delta, n_rows, n_cols)
        assert n == int(numpy.ceil(keep * norms.size))
        is_kept = block_norms(dense, n_rows, n_cols) > 0
        assert is_kept.sum() == n
        assert norms[is_kept].min() >= norms[~is_kept].max(initial=0) * (1 - 1e-6)
        mask = numpy.kron(is_kept, numpy.ones((n_rows, n_cols)))
        numpy.testing.assert_allclose(dense, delta * mask, rtol=rounding + 1e-6, atol=1e-6)
        lost += ((delta - dense) ** 2).sum()
        whole += (delta ** 2).sum()
    assert said["relative_error"] == pytest.approx(numpy.sqrt(lost / whole), rel=1e-4, abs=1e-6)


def test_used_as_an_adapter(hs, say, tmp_path):
    adapter, sparse = tmp_path / "lora.gguf", tmp_path / "sparse.gguf"
    write_adapter(adapter, say, 3, 1)
    hs.ok("adapter", "sparsify", adapter, sparse, "--model", say)
    hs.ok("adapter", "add", sparse, "--name", "thin", "--model", say)
    shown = hs.ok("adapter", "show", "thin", "--json").json
    assert shown["name"] == "thin"
    hs.ok("adapter", "sparsify", "thin", tmp_path / "thinner.gguf", "--model", say,
               "--keep", 0.01)
    before, after = read_sparse(sparse), read_sparse(tmp_path / "thinner.gguf")
    for name, (dense, n) in after.items():
        assert 0 < n < before[name][1]
        numpy.testing.assert_array_equal(dense[dense != 0], before[name][0][dense != 0])
