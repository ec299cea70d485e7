"""hyprstream serve, spoken to by Ollama's own client."""
import datetime
import json
import subprocess

import ollama
import pytest

from conftest import ROOT, SHOWS_TOOLS, TIMEOUT, need

ANSWER = "Hello world, my friend"
HI = [{"role": "user", "content": "Hi"}]
THINKS = ROOT / "tests" / "data" / "templates" / "think.jinja"


@pytest.fixture
def connect():
    clients = []

    def make(server, **kwargs):
        clients.append(ollama.Client(host=server.url, timeout=TIMEOUT, **kwargs))
        return clients[-1]
    yield make
    for client in clients:
        client._client.close()


# ---- answers ----

def test_chat(serve, say, connect):
    client = connect(serve("-m", say))
    answer = client.chat(model=say.stem, messages=HI)
    assert answer.model == say.stem
    assert answer.message.role == "assistant"
    assert answer.message.content == ANSWER
    assert answer.done and answer.done_reason == "stop"
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0
    assert answer.total_duration >= answer.eval_duration > 0
    assert datetime.datetime.fromisoformat(answer.created_at).tzinfo is not None
    assert client.chat(model=f"{say.stem}:latest", messages=HI).message.content == ANSWER


def test_stream(serve, say, connect):
    parts = list(connect(serve("-m", say)).chat(model=say.stem, messages=HI, stream=True))
    assert len(parts) > 2
    assert "".join(part.message.content for part in parts) == ANSWER
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "stop"


def test_options(serve, cycle, connect):
    client = connect(serve("-m", cycle, "--ctx-size", 128))
    options = {"num_predict": 3, "temperature": 0, "num_ctx": 4096}
    answer = client.chat(model=cycle.stem, messages=HI, options=options)
    assert answer.message.content == " hs ht ia"
    assert answer.done_reason == "length" and answer.eval_count == 3
    # the stop string lies across tokens
    answer = client.chat(model=cycle.stem, messages=HI, options={"stop": ["zz", "t i"]})
    assert answer.message.content == " hs h" and answer.done_reason == "stop"


def test_generate_goes_on_from_its_context(serve, say, cycle, connect):
    client = connect(serve("-m", say, "-m", cycle, "--ctx-size", 4096))
    answer = client.generate(model=say.stem, prompt="Hi", system="Be brief")
    assert answer.response == ANSWER and answer.done_reason == "stop"
    again = client.generate(model=say.stem, prompt="Go on", context=answer.context)
    assert again.response == ANSWER
    assert list(again.context[:len(answer.context)]) == list(answer.context)
    assert again.prompt_eval_count > answer.prompt_eval_count
    raw = client.generate(model=cycle.stem, prompt=" hs", raw=True, options={"num_predict": 2})
    assert raw.response == " ht ia" and raw.context is None
    parts = list(client.generate(model=say.stem, prompt="Hi", stream=True))
    assert "".join(part.response for part in parts) == ANSWER
    assert parts[-1].context and not any(part.context for part in parts[:-1])


def test_requests_that_ask_nothing(serve, say, connect):
    client = connect(serve("-m", say))
    assert client.generate(model=say.stem).done_reason == "load"
    assert client.generate(model=say.stem, keep_alive=0).done_reason == "unload"
    assert client.chat(model=say.stem, messages=[], keep_alive="5m").done_reason == "load"
    assert client.chat(model=say.stem, messages=HI).message.content == ANSWER


def test_logprobs(serve, cycle, connect):
    answer = connect(serve("-m", cycle)).chat(model=cycle.stem, messages=HI, logprobs=True,
                                              top_logprobs=2, options={"num_predict": 3})
    assert "".join(item.token for item in answer.logprobs) == answer.message.content
    assert all(len(item.top_logprobs) == 2 for item in answer.logprobs)


def test_embeddings(serve, tiny, connect):
    model = tiny("bert", "mean")
    client = connect(serve("-m", model))
    both = client.embed(model=model.stem, input=["a b", "c"])
    assert len(both.embeddings) == 2
    for vector in both.embeddings:
        assert abs(sum(value * value for value in vector) - 1) < 1e-5
    one = client.embed(model=model.stem, input="a b", dimensions=2)
    assert len(one.embeddings[0]) == 2
    old = client.embeddings(model=model.stem, prompt="a b")
    assert len(old.embedding) == len(both.embeddings[0])
    scale = sum(value * value for value in old.embedding) ** 0.5
    assert all(abs(x / scale - y) < 1e-5 for x, y in zip(old.embedding, both.embeddings[0]))


# ---- what an answer must look like ----

SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"],
          "additionalProperties": False}


def test_format(serve, say, connect):
    client = connect(serve("-m", say))
    answer = client.chat(model=say.stem, messages=HI, format=SCHEMA)
    assert json.loads(answer.message.content) == {"city": "Paris"}
    answer = client.generate(model=say.stem, prompt="Hi", format=SCHEMA)
    assert json.loads(answer.response) == {"city": "Paris"}


def weather(city: str) -> str:
    """The weather.

    Args:
        city: The name of a city
    """
    return f"It rains in {city}."


def test_tools_round_trip(serve, say, caller, connect):
    client = connect(serve("-m", say, "-m", caller, "--ctx-size", 8192, *SHOWS_TOOLS))
    tool = ollama.Tool(function={"name": "weather", "description": "The weather",
                                 "parameters": SCHEMA})
    # the model would call and call; what its last call is cut off in is not there
    fields = dict(model=caller.stem, messages=HI, tools=[tool], options={"num_predict": 150})
    parts = list(client.chat(stream=True, **fields))
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert calls and all((call.function.name, call.function.arguments) == (
        "weather", {"city": "Paris"}) for call in calls)
    answer = client.chat(**fields)
    assert answer.message.tool_calls[0].function.arguments == {"city": "Paris"}
    turns = HI + [answer.message, {
        "role": "tool", "tool_name": "weather",
        "content": weather(**answer.message.tool_calls[0].function.arguments)}]
    # a function of Python as a tool, as the client describes it
    after = client.chat(model=say.stem, messages=turns, tools=[weather])
    assert after.message.content == ANSWER and not after.message.tool_calls


# ---- models ----

def test_models(serve, say, connect):
    client = connect(serve("-m", say))
    listed = client.list().models
    assert [model.model for model in listed] == [f"{say.stem}:latest"]
    assert listed[0].details.format == "gguf" and listed[0].size > 0
    running = client.ps().models
    assert running[0].model == listed[0].model
    assert running[0].context_length == 4096
    assert running[0].expires_at > datetime.datetime.now(datetime.timezone.utc)
    shown = client.show(listed[0].model)
    assert shown.capabilities == ["completion"]
    family = shown.details.family
    assert shown.modelinfo["general.architecture"] == family
    assert shown.modelinfo[f"{family}.context_length"] > 0


def test_what_a_model_can_do(serve, say, tiny, connect):
    embed = tiny("bert", "mean")
    client = connect(serve("-m", say, "-m", embed, *SHOWS_TOOLS))
    assert client.show(say.stem).capabilities == ["completion", "tools"]
    assert client.show(embed.stem).capabilities == ["embedding"]
    client = connect(serve("-m", say, "--chat-template-file", THINKS))
    assert client.show(say.stem).capabilities == ["completion", "thinking"]


def test_thinking_is_apart(serve, tiny, connect):
    model = tiny("say", "<think>hm so</think>It is 4")
    client = connect(serve("-m", model, "--chat-template-file", THINKS))
    answer = client.chat(model=model.stem, messages=HI, think=True)
    assert (answer.message.thinking, answer.message.content) == ("hm so", "It is 4")
    parts = list(client.generate(model=model.stem, prompt="Hi", stream=True))
    assert "".join(part.thinking or "" for part in parts) == "hm so"
    assert "".join(part.response for part in parts) == "It is 4"


# ---- errors ----

@pytest.mark.parametrize("fields, named", [
    ({"options": {"temperature": -1}}, "options.temperature"),
    ({"options": {"stop": [""]}}, "options.stop"),
    ({"messages": [{"role": "user", "content": "a b c d " * 4000}]}, "context"),
    ({"messages": [{"role": "user", "content": "?", "images": [b"png"]}]}, "images"),
    ({"keep_alive": "soon"}, "keep_alive"),
])
def test_bad_requests(serve, say, connect, fields, named):
    with pytest.raises(ollama.ResponseError) as error:
        connect(serve("-m", say)).chat(model=say.stem, **{"messages": HI, **fields})
    assert error.value.status_code == 400
    assert named in error.value.error


def test_unknown_model(serve, say, connect):
    client = connect(serve("-m", say))
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError) as error:
            list(client.chat(model="llama3", messages=HI, stream=stream))
        assert error.value.status_code == 404
        assert "llama3" in error.value.error


def test_models_are_not_changed(serve, say, connect):
    client = connect(serve("-m", say))
    for change in (lambda: client.pull("x"), lambda: client.delete("x"),
                   lambda: client.copy("x", "y"), lambda: client.create("x", from_="y")):
        with pytest.raises(ollama.ResponseError, match="hyprstream model add") as error:
            change()
        assert error.value.status_code == 403


def test_keys(hs, serve, say, connect):
    key = hs.ok("key", "create", "laptop").out.strip()
    server = serve("-m", say)
    with pytest.raises(ollama.ResponseError) as error:
        connect(server).chat(model=say.stem, messages=HI)
    assert error.value.status_code == 401
    client = connect(server, headers={"Authorization": f"Bearer {key}"})
    assert client.chat(model=say.stem, messages=HI).message.content == ANSWER


def test_a_client_that_leaves_frees_its_slot(serve, cycle, connect):
    server = serve("-m", cycle, "--ctx-size", 65536)
    parts = connect(server).chat(model=cycle.stem, messages=HI, stream=True)
    assert next(parts).message.content
    server.wait_busy(1)
    parts.close()
    server.wait_busy(0)


# ---- curl ----

def test_curl(serve, say):
    need("curl")
    server = serve("-m", say)

    def curl(path, *args):
        return subprocess.run(["curl", "-sN", server.url + path, *args], check=True,
                              capture_output=True, timeout=TIMEOUT).stdout.decode()
    lines = curl("/api/chat", "-d", json.dumps({"model": say.stem, "messages": HI})).splitlines()
    parts = [json.loads(line) for line in lines]
    assert "".join(part["message"]["content"] for part in parts) == ANSWER
    assert parts[-1]["done"]
    assert json.loads(curl("/api/version"))["version"]
    assert curl("/", "-I").startswith("HTTP/1.1 200")  # how clients look whether it is there
