"""The names of modules and tensors in src/models/lora_names.def, against llama.cpp's own table.

test_models_lora_names (C) says that the code follows the table; here it is that the table is right.
"""

import pathlib
import re

import gguf
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = re.findall(r'^HS_LORA_NAME\("([^"]+)", "([^"]+)", (SAME|Q|K)\)$',
                   (ROOT / "src/models/lora_names.def").read_text(), re.M)
FAMILIES = re.findall(r'HS_FAMILY\("([^"]+)"(.*?)(PLAIN|NONE),\s+(?:NONE|LLAMA),\s+'
                      r'(?:true|false)\)', (ROOT / "src/models/families.def").read_text(), re.S)
ARCHITECTURES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
# Where modules have names of their own in a family, others' do not count: as hs_model_lora_module.
LISTS = {"ATTENTION": "q_proj,k_proj,v_proj,o_proj",
         "DENSE": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"}


def targets(columns):
    """The family's LoRA targets, the last text of its row."""
    for short, names in LISTS.items():
        columns = columns.replace(short + ' ",', f'"{names},').replace(short, f'"{names}"')
    return re.findall(r'"([a-zA-Z0-9_,]+)"', columns)[-1].split(",")


def plain_families():
    return [(name, targets(columns)) for name, columns, names in FAMILIES if names == "PLAIN"]


def test_the_tables_are_read():
    assert len(NAMES) > 15 and len(plain_families()) > 25
    assert dict(plain_families())["phi3"] == ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]


@pytest.mark.parametrize("name, wanted", plain_families(), ids=lambda value: str(value)[:20])
def test_names_are_llama_cpps(name, wanted):
    names = gguf.get_tensor_name_map(ARCHITECTURES[name], 8)
    n_found = 0
    for module, tensor, _ in NAMES:
        if module.rsplit(".", 1)[-1] not in wanted or "#" not in module:
            continue
        theirs = names.get_name(module.replace("#", "7"))
        if theirs is not None:
            assert theirs + ".weight" == tensor.replace("#", "7"), module
            n_found += 1
    assert n_found >= len(wanted)
