#!/usr/bin/env python3
"""Writes ../data/chat_templates.json, for test_chat_template.c: what Hugging Face transformers'
apply_chat_template makes of templates.

    render_chat_templates.py FOLDER_OF_LLAMA_CPP_TEMPLATES

Written with Python 3.11, transformers 5.23.0, Jinja2 3.1.6; the cases without tools came out alike
of Jinja2 alone. Templates: those in ../data/templates, and files of the pinned llama.cpp's
models/templates that are not copied here.
"""
import copy
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched: tokenizer and templates come from here
import tokenizers  # noqa: E402
import transformers  # noqa: E402

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


WEATHER = {"type": "function", "function": {
    "name": "weather",
    "description": "The weather of a city, \"now\"",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "such as Z\u00fcrich"},
                       "days": {"type": "integer"}},
        "required": ["city"],
    },
}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "What time it is",
    "parameters": {"type": "object", "properties": {}},
}}
ASK = {"role": "user", "content": "Is it warm in <Z\u00fcrich>?"}


def call(number, name, arguments):
    return {"id": f"call{number}", "type": "function",
            "function": {"name": name, "arguments": arguments}}


TOOL_CONVERSATIONS = {
    "tools": [{"role": "system", "content": "Be brief."}, ASK],
    "called": [
        ASK,
        {"role": "assistant", "content": "",
         "tool_calls": [call(1, "weather", {"city": "Z\u00fcrich", "days": 2})]},
        {"role": "tool", "tool_call_id": "call1", "content": "21 \u00b0C"},
    ],
    "called-two": [
        ASK,
        {"role": "assistant", "content": "Let me see.",
         "tool_calls": [call(1, "weather", {"city": "Z\u00fcrich"}), call(2, "clock", {})]},
        {"role": "tool", "tool_call_id": "call1", "content": "21 \u00b0C"},
        {"role": "tool", "tool_call_id": "call2", "content": "noon"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Thanks."},
    ],
}
TOOL_TEMPLATES = ["hermes.jinja", "tools.jinja", "Qwen-Qwen3-0.6B.jinja",
                  "Qwen-Qwen2.5-7B-Instruct.jinja"]


def tokenizer():
    words = {"<unk>": 0, BOS: 1, EOS: 2}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, bos_token=BOS,
                                                eos_token=EOS)


def as_json(messages):
    """Arguments of calls are texts on the wire, and objects for templates."""
    messages = copy.deepcopy(messages)
    for message in messages:
        for one in message.get("tool_calls", ()):
            one["function"]["arguments"] = json.dumps(one["function"]["arguments"],
                                                      ensure_ascii=False)
    return messages


class Cases:
    def __init__(self, foreign):
        self.foreign = foreign
        self.tokenizer = tokenizer()
        self.rows = []

    def add(self, file, name, messages, thinking=True, prompt=True, goes_on=False, tools=None):
        path = OWN / file if (OWN / file).exists() else self.foreign / file
        expected = self.tokenizer.apply_chat_template(
            copy.deepcopy(messages), tools=tools, chat_template=path.read_text(encoding="utf-8"),
            tokenize=False, add_generation_prompt=prompt and not goes_on,
            continue_final_message=goes_on, enable_thinking=thinking)
        row = {"template": file, "conversation": name, "enable_thinking": thinking,
               "add_generation_prompt": prompt, "messages": as_json(messages)}
        if goes_on:
            row["continue_final"] = True
        if tools:
            row["tools"] = [tool["function"] for tool in tools]
        self.rows.append({**row, "expected": expected})


def main():
    cases = Cases(pathlib.Path(sys.argv[1]))
    for file, names in TEMPLATES.items():
        for name in names:
            for thinking in (True, False):
                cases.add(file, name, CONVERSATIONS[name], thinking)
            if name in ("turns", "assistant-last"):
                cases.add(file, name, CONVERSATIONS[name], prompt=False)
            if name == "assistant-last":
                cases.add(file, name, CONVERSATIONS[name], goes_on=True)
    for file in TOOL_TEMPLATES:
        for name, messages in TOOL_CONVERSATIONS.items():
            cases.add(file, name, messages, tools=[WEATHER, CLOCK])
    out = HERE.parent / "data" / "chat_templates.json"
    out.write_text(json.dumps(cases.rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases.rows)} cases")


main()
