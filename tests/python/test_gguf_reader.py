"""Our GGUF reader and PyPI's gguf package see the same in the same files, byte by byte."""
import hashlib
import os
import re
import subprocess
from pathlib import Path

import gguf
import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HYPRSTREAM", ROOT / "build" / "bin" / "hyprstream")).parents[1]
DUMP = BUILD / "tests" / "gguf_dump"
DEPS = Path(os.environ.get("HS_DEPS_DIR") or ROOT / "deps")
DEMO = next((DEPS / "models").glob("SmolLM2*.gguf"), None)

pytestmark = pytest.mark.skipif(not DUMP.exists(), reason=f"{DUMP} is not built")


def fingerprint_of_the_docs(path):
    text = (ROOT / "docs" / "formats.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S).group(1)
    space = {}
    exec(code, space)  # noqa: S102 - the recipe as it is documented
    return space["fingerprint"](path)


def ours(path):
    text = subprocess.run([DUMP, path], check=True, capture_output=True, text=True).stdout
    return [line.split(" ") for line in text.splitlines()]


def value_bytes(field):
    """A field's value as it lies in the file: after key, type and, for arrays, item type, count."""
    kind = field.types[0]
    if kind == gguf.GGUFValueType.ARRAY:
        parts = field.parts[5:]
    elif kind == gguf.GGUFValueType.STRING:
        parts = field.parts[4:]
    else:
        parts = field.parts[3:]
    return b"".join(part.tobytes() for part in parts)


def key_line(field):
    kind = field.types[0]
    items = len(field.data) if kind == gguf.GGUFValueType.ARRAY else 1
    item_type = field.types[-1] if items or kind != gguf.GGUFValueType.ARRAY else None
    digest = hashlib.sha256(value_bytes(field)).hexdigest()
    return ["key", field.name, str(int(kind)), None if item_type is None else str(int(item_type)),
            str(items), digest]


def tensor_line(tensor, data_offset):
    kind = tensor.tensor_type
    return ["tensor", tensor.name, str(int(kind)), kind.name,
            str(int(tensor.data_offset) - data_offset), str(int(tensor.n_bytes)),
            *[str(int(size)) for size in tensor.shape]]


def compare(path):
    lines = ours(path)
    reader = gguf.GGUFReader(path)
    version = int(reader.fields["GGUF.version"].parts[-1][0])
    assert lines[0] == ["file", str(version), str(reader.alignment), str(reader.data_offset),
                        fingerprint_of_the_docs(path)]
    theirs = [key_line(field) for name, field in reader.fields.items()
              if not name.startswith("GGUF.")]
    keys = [line for line in lines if line[0] == "key"]
    assert len(keys) == len(theirs)
    for our, their in zip(keys, theirs):
        their[3] = our[3] if their[3] is None else their[3]
        assert our == their
    assert [line for line in lines if line[0] == "tensor"] == \
        [tensor_line(tensor, reader.data_offset) for tensor in reader.tensors]


@pytest.mark.parametrize("kind", ["bigram", "history"])
def test_tiny_models(tmp_path, kind):
    path = tmp_path / "tiny.gguf"
    subprocess.run([DUMP, "--tiny", path, kind], check=True)
    compare(path)


def test_demo_model():
    if DEMO is None:
        pytest.skip("the demo model is not fetched")
    compare(DEMO)


def test_a_file_written_by_the_package(tmp_path):
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 1)
    writer.add_int64("i64", -5)
    writer.add_float64("f64", 1.25)
    writer.add_bool("flag", True)
    writer.add_array("names", ["a", "b\u00e9"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_custom_alignment(128)
    generator = numpy.random.default_rng(7)
    writer.add_tensor("f32", generator.random((3, 5), dtype=numpy.float32))
    writer.add_tensor("f16", generator.random((2, 3, 4)).astype(numpy.float16))
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1):
        rows = generator.random((4, 64), dtype=numpy.float32)
        writer.add_tensor(kind.name, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    compare(path)
