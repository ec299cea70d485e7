"""JSON schemas and tools on a model that says anything: what comes out must fit, whatever the seed.

The answers are checked by another implementation, jsonschema. The model's tokens are nearly equally
likely, so every seed goes another way through the grammar.
"""
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import openai
import pytest

from conftest import ROOT, TOOL

SEEDS = range(6)
QUESTION = [{"role": "user", "content": "Hi"}]
# Token ids of the tiny vocabulary: '"' ',' '}' ']' often enough that texts and lists end.
ENDS = {str(264 + ord(c) - ord("!")): 4 for c in '",}]'}


def prop(**schemas):
    return {"type": "object", "properties": schemas, "required": list(schemas),
            "additionalProperties": False}


SCHEMAS = {
    "object": {"type": "object"},
    "empty": {},
    "string": prop(a={"type": "string", "maxLength": 12}),
    "length": prop(a={"type": "string", "minLength": 3, "maxLength": 5}),
    "boolean": prop(a={"type": "boolean"}, b={"type": "null"}),
    "number": prop(a={"type": "number"}, b={"type": "integer"}),
    "optional": {"type": "object", "properties": {c: {"type": "boolean"} for c in "abcd"},
                 "required": ["b"]},
    "open": {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a", "z"],
             "additionalProperties": {"type": "boolean"}},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "enum": prop(a={"enum": ["x", 1, None, "é\"\\\n", {"k": [1]}]}, b={"const": "c"}),
    "typed enum": prop(a={"type": ["string", "integer"], "enum": ["x", 2, None]}),
    "nullable": prop(a={"type": ["string", "null"], "maxLength": 4}),
    "array": prop(a={"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}),
    "tuple": prop(a={"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}],
                     "items": False}),
    "any of": prop(a={"anyOf": [{"type": "null"}, prop(k={"type": "boolean"})]}),
    "one of": prop(a={"oneOf": [prop(k={"const": "a"}, v={"type": "null"}),
                                prop(k={"const": "b"}, v={"type": "boolean"})]}),
    "all of": {"allOf": [{"$ref": "#/$defs/A"}, {"type": "object", "properties": {
        "b": {"type": "boolean"}}, "required": ["b"]}], "$defs": {"A": {
            "type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}}},
    "references": {**prop(x={"$ref": "#/$defs/a_b"}, y={"$ref": "#/$defs/a-b"},
                          z={"$ref": "#/$defs/a~1b"}),
                   "$defs": {"a_b": {"type": "null"}, "a-b": {"type": "boolean"},
                             "a/b": {"enum": [7]}}},
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [
            {"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["v"],
        "additionalProperties": False}}},
    "pattern": prop(a={"type": "string", "pattern": "^(ab|c)[0-9]{2,3}[^x]?$"}),
    "wide pattern": prop(a={"type": "string", "pattern": "^.{1,6}$"},
                         b={"type": "string", "pattern": "^[ -~]{2}$"},
                         c={"type": "string", "pattern": r"^\w\s\d\W\D$"}),
    "loose pattern": prop(a={"type": "string", "pattern": "a|b"}),
    "formats": prop(a={"type": "string", "format": "date"}, b={"type": "string", "format": "time"},
                    c={"type": "string", "format": "date-time"},
                    d={"type": "string", "format": "uuid"}),
    **{f"integer {low} to {high}": prop(a={
        key: value for key, value in (("type", "integer"), ("minimum", low), ("maximum", high))
        if value is not None}) for low, high in [
            (0, 0), (0, 9), (1, 105), (105, None), (1000, None), (None, 105), (-5, 7), (-105, -99),
            (None, -1), (10, 12), (99, 1001), (-1000, 1000), (7, None)]},
    "exclusive": prop(a={"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}),
    "names": prop(**{"a b": {"type": "null"}, "ä\"\\": {"type": "null"}, "a_b": {"type": "boolean"},
                     "a-b": {"enum": [1]}}),
}


def make_model(folder, template):
    path = folder / f"random-{template}.gguf"
    source = ROOT / "tests" / "data" / "templates" / f"{template}.jinja"
    subprocess.run([TOOL, "random", path, source], check=True)
    return path


@pytest.fixture(scope="module")
def random_model(tiny_folder):
    return make_model(tiny_folder, "hermes")


def answer(server, seed, bias=ENDS, **kwargs):
    return server.chat(messages=QUESTION, seed=seed, temperature=1.5, top_p=1, max_tokens=600,
                       logit_bias=bias, extra_body={"top_k": 0, "min_p": 0}, **kwargs).choices[0]


def check(choice, schema):
    assert choice.finish_reason in ("stop", "length")
    if choice.finish_reason == "length":
        return 0
    value = json.loads(choice.message.content)
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)
    return 1


def test_every_answer_fits_its_schema(serve, random_model):
    server = serve("-m", random_model)

    def ask(case):
        name, seed = case
        return answer(server, seed, response_format={
            "type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMAS[name]}})

    cases = [(name, seed) for name in SCHEMAS for seed in SEEDS]
    with ThreadPoolExecutor(8) as pool:
        choices = list(pool.map(ask, cases))
    whole = set()
    for (name, seed), choice in zip(cases, choices):
        try:
            whole |= {name} if check(choice, SCHEMAS[name] or {"type": "object"}) else set()
        except (ValueError, jsonschema.ValidationError) as error:
            raise AssertionError(f"{name}, seed {seed}: {choice.message.content}") from error
    assert whole == set(SCHEMAS), set(SCHEMAS) - whole


@pytest.mark.parametrize("template", ["think", "think-open"])
def test_reasoning_comes_before_the_json(serve, tiny_folder, template):
    server = serve("-m", make_model(tiny_folder, template))
    schema = prop(a={"type": "boolean"})
    bias = {**ENDS, "261": 3, "262": 8}  # <think>, </think>
    thoughts = 0
    for seed in range(12):
        choice = answer(server, seed, bias, response_format={
            "type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
        check(choice, schema)
        thoughts += bool(getattr(choice.message, "reasoning_content", None))
    assert thoughts > 0


def test_json_mode(serve, random_model):
    server = serve("-m", random_model)
    for seed in SEEDS:
        check(answer(server, seed, response_format={"type": "json_object"}), {"type": "object"})


def test_a_schema_that_cannot_be_enforced_is_named(serve, random_model):
    server = serve("-m", random_model)
    schema = prop(a={"type": "array", "items": {"type": "null"}, "uniqueItems": True})
    with pytest.raises(openai.BadRequestError, match=r"uniqueItems.*#/properties/a"):
        answer(server, 1, response_format={"type": "json_schema",
                                           "json_schema": {"name": "s", "schema": schema}})


TOOLS = [{"type": "function", "function": {"name": name, "parameters": parameters}}
         for name, parameters in [
    ("look", prop(what={"type": "string", "maxLength": 8}, deep={"$ref": "#/$defs/D"})
     | {"$defs": {"D": {"type": "boolean"}}}),
    ("count", prop(n={"$ref": "#/$defs/D"}) | {"$defs": {"D": {"type": "integer", "minimum": 3,
                                                              "maximum": 21}}}),
]]


@pytest.mark.parametrize("choice", ["required", "count"])
def test_forced_calls_fit_their_parameters(serve, random_model, choice):
    server = serve("-m", random_model)
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    named = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    called = set()
    for seed in range(12):
        got = answer(server, seed, tools=TOOLS, tool_choice=named)
        if got.finish_reason == "length":
            continue
        assert got.finish_reason in ("tool_calls", "stop") and got.message.tool_calls
        for call in got.message.tool_calls:
            called.add(call.function.name)
            jsonschema.validate(json.loads(call.function.arguments),
                                parameters[call.function.name])
    assert called == ({"look", "count"} if choice == "required" else {"count"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_or_an_answer_by_the_schema(serve, random_model, stream):
    server = serve("-m", random_model)
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    schema = prop(look={"type": "boolean"}, what={"type": "string", "maxLength": 8})
    format_ = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    kinds = set()
    for seed in range(24):
        text, names, arguments = "", {}, {}
        if stream:
            for chunk in server.chat(
                    messages=QUESTION, seed=seed, temperature=1.5, top_p=1, max_tokens=600,
                    logit_bias=ENDS, extra_body={"top_k": 0, "min_p": 0}, tools=TOOLS,
                    response_format=format_, stream=True):
                for part in chunk.choices[0].delta.tool_calls or []:
                    names[part.index] = part.function.name or names[part.index]
                    arguments[part.index] = (arguments.get(part.index, "")
                                             + part.function.arguments)
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason
        else:
            got = answer(server, seed, tools=TOOLS, response_format=format_)
            text, finish = got.message.content, got.finish_reason
            for i, call in enumerate(got.message.tool_calls or []):
                names[i], arguments[i] = call.function.name, call.function.arguments
        if finish == "length":
            continue
        if names:
            assert not (text or "").strip() and finish == "tool_calls"
            for i, name in names.items():
                jsonschema.validate(json.loads(arguments[i]), parameters[name])
        else:
            jsonschema.validate(json.loads(text), schema)
        kinds.add(bool(names))
    assert kinds == {True, False}


def test_calls_one_at_a_time(serve, random_model):
    server = serve("-m", random_model)
    numbers = set()
    for parallel in (True, False):
        for seed in range(12):
            got = answer(server, seed, tools=TOOLS, tool_choice="required",
                         parallel_tool_calls=parallel)
            if parallel:
                numbers.add(len(got.message.tool_calls))
            else:
                assert len(got.message.tool_calls) == 1
    assert max(numbers) > 1


def test_a_stream_says_the_same(serve, random_model):
    server = serve("-m", random_model)
    whole = answer(server, 3, tools=TOOLS, tool_choice="required").message
    calls = {}
    text = ""
    for chunk in server.chat(messages=QUESTION, seed=3, temperature=1.5, top_p=1, max_tokens=600,
                             logit_bias=ENDS, extra_body={"top_k": 0, "min_p": 0}, tools=TOOLS,
                             tool_choice="required", stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for part in choice.delta.tool_calls or []:
                name, arguments = calls.get(part.index, ("", ""))
                calls[part.index] = (name + (part.function.name or ""),
                                     arguments + (part.function.arguments or ""))
    assert [calls[i] for i in sorted(calls)] == [
        (call.function.name, call.function.arguments) for call in whole.tool_calls]
    assert text == (whole.content or "")


def test_no_choice_makes_no_call(serve, random_model):
    server = serve("-m", random_model)
    for seed in SEEDS:
        got = server.chat(messages=QUESTION, seed=seed, max_tokens=40, tools=TOOLS,
                          tool_choice="none").choices[0]
        assert not got.message.tool_calls
