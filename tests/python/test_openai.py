"""OpenAI's own client with what goes beyond plain chat: schemas, tools, responses; and sessions."""
import json
import time
import urllib.error
import urllib.request
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

from conftest import TIMEOUT

ANSWER = "Hello world, my friend"
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"type": "function",
           "function": {"name": "get_weather", "description": "The weather in a city",
                        "parameters": PARAMETERS}}

# ChatML with tools, and with marks of calls in which no letter comes twice, so that a model that
# knows but the last token can say them
TEMPLATE = """{%- if tools %}{{ '<|im_start|>system\nTools:' }}
{%- for tool in tools %}{{ '\n' }}{{ tool | tojson }}{%- endfor %}{{ '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant\n' }}{%- if message.content %}{{- message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{{- '<q>{"name": "' + tool_call.function.name + '", "arguments": ' }}
{{- tool_call.function.arguments | tojson }}{{- '}</q>' }}
{%- endfor %}{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n[' + message.content + ']<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""


class Fruit(BaseModel):
    name: Literal["apple", "lemon", "plum"]
    colours: list[Literal["red", "green", "yellow"]] = Field(max_length=2)
    ripe: bool


FRUIT = {"role": "user", "content": "Describe a fruit as JSON."}


@pytest.fixture
def tool_server(serve, tiny, tmp_path):
    """A model that always begins a call; the grammar leads it to the end."""
    template = tmp_path / "tools.jinja"
    template.write_text(TEMPLATE)
    return serve("-m", tiny("say", "<q>"), "-c", 2048, "--temp", 0,
                 "--chat-template-file", template)


# ---- JSON ----

def test_a_schema_is_parsed_by_pydantic(serve, demo):
    client = serve("-m", demo, "-c", 1024, "--temp", 0).client
    answer = client.chat.completions.parse(model="", messages=[FRUIT], response_format=Fruit,
                                           max_tokens=200)
    assert isinstance(answer.choices[0].message.parsed, Fruit)
    with client.chat.completions.stream(model="", messages=[FRUIT], response_format=Fruit,
                                        max_tokens=200) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == answer.choices[0].message.parsed
    answer = client.responses.parse(model="", input=FRUIT["content"], text_format=Fruit,
                                    max_output_tokens=200)
    assert isinstance(answer.output_parsed, Fruit)
    answer = client.completions.create(model="", prompt="A number: ", max_tokens=20,
                                       extra_body={"json_schema": {"enum": [17, 23]}})
    assert json.loads(answer.choices[0].text) in (17, 23)


def test_a_schema_that_cannot_be_enforced_is_refused(serve, say):
    client = serve("-m", say).client
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model="", messages=[FRUIT], response_format={
                "type": "json_schema", "json_schema": {"name": "list", "schema": schema}})
    assert error.value.param == "response_format.json_schema.schema"
    assert "uniqueItems" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="", input="Hi", text={
            "format": {"type": "json_schema", "name": "list", "schema": schema}})
    assert error.value.param == "text.format.schema"


# ---- tools ----

def check_call(name, arguments):
    assert name == "get_weather"
    arguments = json.loads(arguments)
    assert set(arguments) == {"city", "unit"}
    assert arguments["city"] in ("Paris", "Rome") and arguments["unit"] in ("c", "f")


@pytest.mark.parametrize("choice", ["required", "auto",
                                    {"type": "function", "function": {"name": "get_weather"}}])
def test_tools_round_trip(tool_server, choice):
    create = tool_server.client.chat.completions.create
    answer = create(model="", messages=ASK, tools=[WEATHER], tool_choice=choice, max_tokens=200,
                    parallel_tool_calls=False)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert len(message.tool_calls) == 1
    call = message.tool_calls[0]
    check_call(call.function.name, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}
    answer = create(model="", messages=[*ASK, message, result], tools=[WEATHER],
                    tool_choice="none", max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage.prompt_tokens_details.cached_tokens > 0


def test_tools_in_a_stream(tool_server):
    with tool_server.client.chat.completions.stream(
            model="", messages=ASK, tools=[WEATHER], tool_choice="required", max_tokens=200,
            parallel_tool_calls=False) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert final.choices[0].finish_reason == "tool_calls"
    call = final.choices[0].message.tool_calls[0]
    check_call(call.function.name, call.function.arguments)


def test_tools_in_responses(tool_server):
    client = tool_server.client
    tool = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
    with client.responses.stream(model="", input=ASK[0]["content"], tools=[tool],
                                 tool_choice="required", parallel_tool_calls=False,
                                 max_output_tokens=200) as stream:
        kinds = [event.type for event in stream]
        first = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    call = next(item for item in first.output if item.type == "function_call")
    check_call(call.name, call.arguments)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    second = client.responses.create(model="", previous_response_id=first.id, input=[output],
                                     tools=[tool], tool_choice="none", max_output_tokens=8)
    assert second.output_text
    assert second.usage.input_tokens_details.cached_tokens > 0


def test_tools_need_a_template_that_shows_them(serve, demo):
    client = serve("-m", demo, "-c", 512).client
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="", messages=ASK, tools=[WEATHER])
    assert "--chat-template-file" in error.value.message


# ---- responses ----

def test_responses(serve, say):
    client = serve("-m", say).client
    first = client.responses.create(model=say.stem, input="Hi", instructions="Be kind",
                                    metadata={"a": "b"})
    assert first.status == "completed" and first.output_text == ANSWER
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
    assert client.responses.retrieve(first.id).output_text == ANSWER
    assert client.responses.retrieve(first.id).metadata == {"a": "b"}
    second = client.responses.create(model="", input="And?", previous_response_id=first.id,
                                     instructions="Be kind")
    assert second.previous_response_id == first.id
    # all of the first turn is in the KV cache
    kept = first.usage.input_tokens + first.usage.output_tokens - 8
    assert second.usage.input_tokens_details.cached_tokens >= kept > 0
    items = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.content[0].text for item in items] == ["Hi", ANSWER, "And?"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="", input="x", previous_response_id=first.id)
    assert error.value.code == "previous_response_not_found"
    passing = client.responses.create(model="", input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(passing.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="", input="Hi", background=True)
    assert error.value.param == "background"


def test_responses_in_a_stream(serve, say, cycle):
    server = serve("-m", say, "-m", cycle)
    with server.client.responses.stream(model=say.stem, input="Hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == ANSWER
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == ANSWER
    cut = server.client.responses.create(model=cycle.stem, input="Hi", max_output_tokens=3)
    assert cut.status == "incomplete"
    assert cut.incomplete_details.reason == "max_output_tokens"
    # a client that stops reading frees the sequence, and nothing of it is kept
    stream = server.client.responses.create(model=cycle.stem, input="Hi", stream=True)
    first = next(iter(stream))
    path = f"/slots?model={cycle.stem}"
    stream.close()
    end = time.monotonic() + TIMEOUT
    while any(slot["is_processing"] for slot in server.get(path)):
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(openai.NotFoundError):
        server.client.responses.retrieve(first.response.id)


def test_responses_outlive_the_server(hs, serve, say):
    server = serve("-m", say, "--max-responses", 2)
    ids = [server.client.responses.create(model="", input="Hi").id for _ in range(3)]
    with pytest.raises(openai.NotFoundError):
        server.client.responses.retrieve(ids[0])
    assert server.stop() == 0
    server = serve("-m", say)
    answer = server.client.responses.create(model="", input="And?", previous_response_id=ids[1])
    assert answer.output_text == ANSWER
    assert server.client.responses.retrieve(ids[2]).output_text == ANSWER
    assert (hs.home / "responses.db").stat().st_mode & 0o777 == 0o600
    server.stop()
    server = serve("-m", say, "--max-responses", 0)
    answer = server.client.responses.create(model="", input="Hi")
    assert answer.store is False
    with pytest.raises(openai.NotFoundError):
        server.client.responses.retrieve(ids[2])


# ---- sessions ----

def call(server, method, path, body=None, key=None):
    """Status and JSON of a request about sessions."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/api/v1/sessions{path}", data=data,
                                     method=method)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_sessions_are_those_of_the_terminal(hs, serve, say):
    hs.ok("chat", "-m", say, "--session", "mine", "Hi")
    server = serve("-m", say)
    assert call(server, "POST", "", {"name": "web", "system": "Be kind"})[0] == 201
    status, answer = call(server, "POST", "/web/generate", {"prompt": "Hi"})
    assert status == 200 and answer["message"]["content"] == ANSWER
    status, answer = call(server, "POST", "/web/generate", {"prompt": "And?"})
    assert answer["usage"]["cached_tokens"] > 0
    status, answer = call(server, "POST", "/web/generate", {"regenerate": True})
    assert status == 200
    assert [m["role"] for m in call(server, "GET", "/web")[1]["messages"]] == [
        "system", "user", "assistant", "user", "assistant"]
    status, answer = call(server, "POST", "/mine/generate", {"prompt": "And?", "model": say.stem})
    assert status == 200, answer
    names = {row["name"]: row["n_messages"] for row in hs.ok("session", "list", "--json").json}
    assert names == {"mine": 4, "web": 5}
    hs.ok("chat", "-m", say, "--session", "web", "From the terminal")
    status, session = call(server, "GET", "/web")
    assert session["messages"][-2]["content"] == "From the terminal"
    assert call(server, "DELETE", "/mine")[0] == 200
    assert [row["id"] for row in call(server, "GET", "")[1]["data"]] == ["web"]


def test_a_session_in_use(hs, serve, cycle):
    server = serve("-m", cycle)
    assert call(server, "POST", "", {"name": "a"})[0] == 201
    body = json.dumps({"prompt": "Hi", "stream": True}).encode()
    stream = urllib.request.urlopen(f"{server.url}/api/v1/sessions/a/generate", body,
                                    timeout=TIMEOUT)
    while not stream.readline().startswith(b"event: text"):
        pass
    assert call(server, "POST", "/a/generate", {"prompt": "And?"})[0] == 409
    assert call(server, "DELETE", "/a")[0] == 409
    assert hs.run("session", "rm", "--force", "a").code == 14
    stream.close()
    server.wait_busy(0)
    end = time.monotonic() + TIMEOUT
    while call(server, "POST", "/a/generate", {"prompt": "And?", "max_tokens": 2})[0] == 409:
        assert time.monotonic() < end
        time.sleep(0.01)
    messages = call(server, "GET", "/a")[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]


def test_keys_see_their_own(hs, serve, say):
    one = hs.ok("key", "create", "one").out.strip()
    two = hs.ok("key", "create", "two").out.strip()
    admin = hs.ok("key", "create", "boss", "--scopes", "admin").out.strip()
    server = serve("-m", say)
    with server.client.with_options(api_key=one) as mine, \
            server.client.with_options(api_key=two) as other:
        kept = mine.responses.create(model="", input="Hi")
        assert mine.responses.retrieve(kept.id).id == kept.id
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(kept.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.delete(kept.id)
        with pytest.raises(openai.BadRequestError):
            other.responses.create(model="", input="x", previous_response_id=kept.id)
    assert call(server, "POST", "", {"name": "a"}, one)[0] == 201
    assert call(server, "POST", "/a/generate", {"prompt": "Hi"}, one)[0] == 200
    assert call(server, "GET", "/a", key=two)[0] == 404
    assert call(server, "POST", "", {"name": "a"}, two)[0] == 201
    assert [row["id"] for row in call(server, "GET", "", key=two)[1]["data"]] == ["a"]
    assert call(server, "GET", "/a", key=one)[1]["n_messages"] == 2
    assert call(server, "GET", "/a", key=admin)[0] == 404
    assert len(call(server, "GET", "", key=admin)[1]["data"]) == 2
    assert call(server, "GET", "")[0] == 401
