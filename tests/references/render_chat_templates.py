#!/usr/bin/env python3
"""Writes ../data/chat_templates.json, for test_chat_template.c: what Jinja2 makes of templates.

The environment is the one of Hugging Face transformers' apply_chat_template (5.x,
utils/chat_template_utils.py): sandboxed, trim_blocks, lstrip_blocks, loop controls, and the
functions raise_exception and tojson.

    render_chat_templates.py FOLDER_OF_LLAMA_CPP_TEMPLATES

Written with Python 3.11, Jinja2 3.1.6. Templates: those in ../data/templates, and files of the
pinned llama.cpp's models/templates that are not copied here.
"""
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
OWN = HERE.parent / "data" / "templates"
BOS, EOS = "<s>", "</s>"

USER = {"role": "user", "content": "Hello"}
CONVERSATIONS = {
    "user": [USER],
    "system": [{"role": "system", "content": "Be brief."}, USER],
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "And 3 + 3?"},
    ],
    "unicode": [{
        "role": "user",
        "content": "Gr\u00fc\u00dfe \u4f60\u597d \U0001f600 \"quoted\" <b>&amp;</b>",
    }],
    "spaces": [{"role": "user", "content": "  two\n\nlines \t "}],
    "empty": [{"role": "user", "content": ""}],
    "long": [
        {"role": ("user", "assistant")[i % 2], "content": f"message number {i}"} for i in range(21)
    ],
    "reasoned": [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "Two and two make four."},
        {"role": "user", "content": "Sure?"},
    ],
    "assistant-last": [USER, {"role": "assistant", "content": "Hi!"}],
}
TEMPLATES = {
    "smollm2.jinja": ["user", "system", "turns", "unicode", "spaces", "empty", "long",
                      "assistant-last"],
    "bos.jinja": ["user", "system", "turns", "unicode"],
    "think.jinja": ["user", "system", "turns", "reasoned"],
    "think-open.jinja": ["user", "turns", "reasoned"],
    "Qwen-Qwen3-0.6B.jinja": ["user", "system", "turns", "unicode", "long", "reasoned"],
    "Qwen-QwQ-32B.jinja": ["user", "system", "turns", "reasoned"],
    "Qwen-Qwen2.5-7B-Instruct.jinja": ["user", "system", "turns", "spaces"],
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja": ["user", "system", "turns"],
    "google-gemma-2-2b-it.jinja": ["user", "unicode", "long"],
}


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    foreign = pathlib.Path(sys.argv[1])
    cases = []
    for file, conversations in TEMPLATES.items():
        path = OWN / file if (OWN / file).exists() else foreign / file
        template = environment().from_string(path.read_text(encoding="utf-8"))
        for name in conversations:
            messages = CONVERSATIONS[name]
            for thinking in (True, False):
                for prompt in (True, False):
                    if not prompt and (
                            thinking is False or name not in ("turns", "assistant-last")):
                        continue
                    cases.append({
                        "template": file,
                        "conversation": name,
                        "enable_thinking": thinking,
                        "add_generation_prompt": prompt,
                        "messages": messages,
                        "expected": template.render(
                            messages=messages, add_generation_prompt=prompt, bos_token=BOS,
                            eos_token=EOS, enable_thinking=thinking, tools=None, documents=None),
                    })
    out = HERE.parent / "data" / "chat_templates.json"
    out.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases")


main()
