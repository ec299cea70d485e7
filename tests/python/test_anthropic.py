"""hyprstream serve, spoken to by Anthropic's own client."""
import subprocess

import anthropic
import pytest

from conftest import ROOT, SHOWS_TOOLS, TIMEOUT, need

ANSWER = "Hello world, my friend"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def connect():
    clients = []

    def make(server, **kwargs):
        kwargs.setdefault("api_key", "none")
        clients.append(anthropic.Anthropic(base_url=server.url, max_retries=0, timeout=TIMEOUT,
                                           **kwargs))
        return clients[-1]
    yield make
    for client in clients:
        client.close()


def ask(client, **kwargs):
    fields = {"model": "", "max_tokens": 64, "messages": HI, **kwargs}
    return client.messages.create(**fields)


# ---- answers ----

def test_message(serve, say, connect):
    client = connect(serve("-m", say))
    answer = ask(client, system="Be brief", model=say.stem)
    assert answer.type == "message" and answer.role == "assistant"
    assert answer.id.startswith("msg_")
    assert answer.model == say.stem
    assert [block.text for block in answer.content] == [ANSWER]
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    assert answer.usage.output_tokens > 0
    assert answer.usage.cache_read_input_tokens == 0
    again = ask(client, system="Be brief")
    assert again.usage.cache_read_input_tokens > 0
    assert (again.usage.input_tokens + again.usage.cache_read_input_tokens
            == answer.usage.input_tokens)


def test_count_tokens(serve, say, connect):
    client = connect(serve("-m", say))
    system = [{"type": "text", "text": "You are a librarian.",
               "cache_control": {"type": "ephemeral"}}]
    messages = HI + [{"role": "assistant", "content": "Hello."}] + HI
    count = client.messages.count_tokens(model="", system=system, messages=messages)
    answer = ask(client, system=system, messages=messages)
    assert count.input_tokens == answer.usage.input_tokens


def test_stream(serve, say, connect):
    client = connect(serve("-m", say))
    with client.messages.stream(model="", max_tokens=64, messages=HI) as stream:
        text = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(text) > 1 and "".join(text) == ANSWER
    assert final.content[0].text == ANSWER
    assert final.stop_reason == "end_turn"
    whole = ask(client)
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert (final.usage.input_tokens + final.usage.cache_read_input_tokens
            == whole.usage.input_tokens + whole.usage.cache_read_input_tokens)


def test_events_in_order(serve, say, connect):
    kinds = [event.type for event in ask(connect(serve("-m", say)), stream=True)]
    n_deltas = kinds.count("content_block_delta")
    # the client keeps pings to itself
    assert kinds == (["message_start", "content_block_start"]
                     + ["content_block_delta"] * n_deltas
                     + ["content_block_stop", "message_delta", "message_stop"])


def test_what_else_the_client_asks(serve, say, connect):
    client = connect(serve("-m", say))
    assert [model.id for model in client.models.list()] == [say.stem]
    assert client.models.retrieve(say.stem).id == say.stem
    answer = client.beta.messages.create(model="", max_tokens=64, messages=HI,
                                         betas=["a-feature-2026-01-01"])
    assert answer.content[0].text == ANSWER
    raw = client.messages.with_raw_response.create(model="", max_tokens=64, messages=HI)
    assert raw.request_id == raw.headers["request-id"] == raw.headers["x-request-id"]


def test_why_it_stops(serve, cycle, connect):
    client = connect(serve("-m", cycle, "--ctx-size", 128))
    answer = ask(client, max_tokens=3)
    assert answer.stop_reason == "max_tokens"
    assert answer.content[0].text == " hs ht ia"
    # the string lies across tokens
    answer = ask(client, max_tokens=20, stop_sequences=["zz", "t i"])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == "t i"
    assert answer.content[0].text == " hs h"
    with client.messages.stream(model="", max_tokens=20, messages=HI,
                                stop_sequences=["ia"]) as stream:
        final = stream.get_final_message()
    assert final.stop_sequence == "ia" and final.content[0].text == " hs ht "
    answer = ask(client, max_tokens=100000)
    assert answer.stop_reason == "model_context_window_exceeded"


def test_an_answer_that_began_goes_on(serve, cycle, connect):
    client = connect(serve("-m", cycle))
    answer = ask(client, max_tokens=2, messages=HI + [{"role": "assistant", "content": " hs ht"}])
    assert answer.content[0].text == " ia ib"


def test_json_schema(serve, say, connect):
    schema = {"type": "object", "properties": {"colour": {"enum": ["green"]}},
              "required": ["colour"], "additionalProperties": False}
    answer = ask(connect(serve("-m", say)),
                 output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.content[0].text.replace(" ", "").replace("\n", "") == '{"colour":"green"}'


def test_tools_round_trip(serve, say, connect):
    client = connect(serve("-m", say, "--ctx-size", 8192, *SHOWS_TOOLS))
    asked = dict(tools=TOOLS, tool_choice=CHOICE, max_tokens=512)
    answer = ask(client, **asked)
    assert answer.stop_reason == "tool_use"
    call = answer.content[-1]
    assert call.type == "tool_use" and call.name == "weather" and call.input == {"city": "Paris"}
    with client.messages.stream(model="", messages=HI, **asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[-1].input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    after = ask(client, tools=TOOLS, tool_choice={"type": "none"}, messages=HI + [
        answer.to_param(), {"role": "user", "content": [result]}])
    assert after.content[0].text == ANSWER
    assert after.usage.input_tokens + after.usage.cache_read_input_tokens > (
        answer.usage.input_tokens + answer.usage.cache_read_input_tokens)


def test_thinking_is_a_block_of_its_own(serve, tiny, connect):
    client = connect(serve("-m", tiny("say", "<think>hm so</think>It is 4"),
                           "--chat-template-file",
                           ROOT / "tests" / "data" / "templates" / "think.jinja"))
    answer = ask(client, thinking={"type": "adaptive"})
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].thinking == "hm so" and answer.content[0].signature
    assert answer.content[1].text == "It is 4"
    with client.messages.stream(model="", max_tokens=64, messages=HI) as stream:
        final = stream.get_final_message()
    assert final.content[0].thinking == "hm so" and final.content[0].signature
    assert final.content[1].text == "It is 4"
    turns = HI + [answer.to_param()] + HI
    assert ask(client, messages=turns).content[-1].text == "It is 4"


# ---- tools ----

TOOLS = [
    {"name": "weather", "description": "The weather of a city",
     "input_schema": {"type": "object", "properties": {"city": {"enum": ["Paris"]}},
                      "required": ["city"], "additionalProperties": False}},
    {"name": "time", "description": "The time", "input_schema": {"type": "object",
                                                                "properties": {}}},
]
CHOICE = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


def test_tools_round_trip(serve, say, caller, connect):
    client = connect(serve("-m", say, "-m", caller, "--ctx-size", 8192, *SHOWS_TOOLS))
    asked = dict(model=caller.stem, tools=TOOLS, tool_choice=CHOICE, max_tokens=512)
    answer = ask(client, **asked)
    assert answer.stop_reason == "tool_use"
    call, = answer.content
    assert call.type == "tool_use" and call.name == "weather" and call.input == {"city": "Paris"}
    with client.messages.stream(messages=HI, **asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[0].input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    turns = HI + [answer.to_param(), {"role": "user", "content": [result]}]
    after = ask(client, model=say.stem, tools=TOOLS, messages=turns)
    assert after.content[0].text == ANSWER and after.stop_reason == "end_turn"
    count = client.messages.count_tokens(model=say.stem, tools=TOOLS, messages=turns)
    assert count.input_tokens == after.usage.input_tokens
    assert count.input_tokens > client.messages.count_tokens(
        model=say.stem, messages=turns).input_tokens


def test_like_a_coding_assistant(serve, say, caller, connect):
    """A system prompt of several blocks, many tools, streams, turn after turn."""
    client = connect(serve("-m", say, "-m", caller, "--ctx-size", 65536, *SHOWS_TOOLS))
    system = [{"type": "text", "text": "You help with programs. " * 400,
               "cache_control": {"type": "ephemeral"}},
              {"type": "text", "text": "The folder is empty."}]
    tools = [{"name": f"tool_{i}", "description": "Does this and that. " * 10,
              "input_schema": {"type": "object", "properties": {
                  "path": {"type": "string", "description": "A file"},
                  "limit": {"type": "integer"}}, "required": ["path"]}} for i in range(15)]
    messages = [{"role": "user", "content": [
        {"type": "text", "text": "<system-reminder>Today is Monday.</system-reminder>"},
        {"type": "text", "text": "Hi"}]}]
    fields = dict(max_tokens=256, system=system, tools=tools + TOOLS,
                  metadata={"user_id": "somebody"}, thinking={"type": "disabled"})
    for turn in range(4):
        calls = turn % 2 == 1
        with client.messages.stream(messages=messages, model=(caller if calls else say).stem,
                                    **({"tool_choice": CHOICE} if calls else {}),
                                    **fields) as stream:
            final = stream.get_final_message()
        if turn > 1:  # the prompt is not computed again
            assert final.usage.cache_read_input_tokens > 20 * final.usage.input_tokens
        if calls:
            assert final.content[0].input == {"city": "Paris"}
            more = [{"type": "tool_result", "tool_use_id": final.content[0].id,
                     "content": [{"type": "text", "text": "It rains."}]}]
        else:
            assert final.content[0].text == ANSWER
            more = "Go on"
        messages += [final.to_param(), {"role": "user", "content": more}]


# ---- errors ----

@pytest.mark.parametrize("fields, named", [
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"temperature": 2}, "temperature"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": ""}}]}]}, "text only"),
    ({"messages": [{"role": "user", "content": "a b c d " * 4000}]}, "context"),
])
def test_bad_requests(serve, say, connect, fields, named):
    extra = {"temperature": fields.pop("temperature")} if "temperature" in fields else None
    with pytest.raises(anthropic.BadRequestError) as error:
        ask(connect(serve("-m", say)), extra_body=extra, **fields)
    assert error.value.body["error"]["type"] == "invalid_request_error"
    assert named in error.value.body["error"]["message"]
    assert error.value.request_id == error.value.body["request_id"]


def test_unknown_model(serve, say, connect):
    with pytest.raises(anthropic.NotFoundError, match="there is no model 'claude'"):
        ask(connect(serve("-m", say)), model="claude")


def test_keys(hs, serve, say, connect):
    key = hs.ok("key", "create", "laptop").out.strip()
    server = serve("-m", say)
    with pytest.raises(anthropic.AuthenticationError) as error:
        ask(connect(server))
    assert error.value.body["error"]["type"] == "authentication_error"
    assert ask(connect(server, api_key=key)).content[0].text == ANSWER
    assert ask(connect(server, api_key=None, auth_token=key)).content[0].text == ANSWER


def test_a_full_queue(serve, cycle, connect):
    server = serve("-m", cycle, "--max-sequences", 1, "--max-queue", 1, "--ctx-size", 65536)
    client = connect(server)
    running = ask(client, stream=True, max_tokens=60000)
    next(iter(running))
    server.wait_busy(1)
    waiting = ask(client, stream=True)
    with pytest.raises(anthropic.RateLimitError) as error:
        ask(client)
    assert error.value.body["error"]["type"] == "rate_limit_error"
    running.close()
    assert "message_stop" in [event.type for event in waiting]


def test_a_client_that_leaves_frees_its_slot(serve, cycle, connect):
    server = serve("-m", cycle, "--ctx-size", 65536)
    with connect(server).messages.stream(model="", max_tokens=60000, messages=HI) as stream:
        assert next(stream.text_stream)
        server.wait_busy(1)
    server.wait_busy(0)


# ---- curl ----

def test_curl(serve, say):
    need("curl")
    server = serve("-m", say)
    body = '{"max_tokens": 64, "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
    out = subprocess.run(["curl", "-sN", server.url + "/v1/messages", "-H", "x-api-key: none",
                          "-H", "anthropic-version: 2023-06-01", "-d", body],
                         check=True, capture_output=True, timeout=TIMEOUT).stdout.decode()
    events = out.split("\n\n")
    assert events[0].startswith("event: message_start\ndata: {")
    assert events[-2] == 'event: message_stop\ndata: {"type":"message_stop"}' and events[-1] == ""
