"""hyprstream serve, spoken to by OpenAI's own client, by curl and by bare sockets."""
import gzip
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import TIMEOUT, need

ANSWER = "Hello world, my friend"
HI = [{"role": "user", "content": "Hi"}]


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


# ---- OpenAI's client ----

def test_chat(serve, say):
    server = serve("-m", say)
    answer = server.chat()
    assert answer.object == "chat.completion"
    assert answer.model == say.stem
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    again = server.chat()
    assert 0 < again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens


def test_stream(serve, say):
    chunks = list(serve("-m", say).chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_lengths_and_stop(serve, cycle):
    server = serve("-m", cycle)
    answer = server.chat(max_tokens=3)
    assert answer.choices[0].message.content == " hs ht ia"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    # the stop string lies across tokens
    answer = server.chat(max_completion_tokens=20, stop=["zz", "t i"])
    assert answer.choices[0].message.content == " hs h"
    assert answer.choices[0].finish_reason == "stop"
    assert text_of(server.chat(stop="ia", stream=True)) == " hs ht "


def test_completions(serve, cycle):
    server = serve("-m", cycle)
    create = server.client.completions.create
    assert create(model=cycle.stem, prompt=" hs", max_tokens=2).choices[0].text == " ht ia"
    answer = create(model=cycle.stem, prompt=[" hs", " ia"], n=2, max_tokens=1, echo=True)
    assert [choice.text for choice in answer.choices] == [" hs ht", " hs ht", " ia ib", " ia ib"]
    tokens = server.post("/tokenize", {"content": " hs"})["tokens"]
    assert create(model="", prompt=tokens, max_tokens=1).choices[0].text == " ht"
    chunks = create(model="", prompt=" hs", max_tokens=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == " ht ia ib"


def test_seed(serve, demo):
    server = serve("-m", demo, "--ctx-size", 512)
    same = dict(seed=7, temperature=1.5, max_tokens=12)
    first = server.chat(**same).choices[0].message.content
    assert server.chat(**same).choices[0].message.content == first
    assert text_of(server.chat(stream=True, **same)) == first
    answers = server.chat(n=3, **same).choices
    assert answers[0].message.content == first
    assert len({choice.message.content for choice in answers}) > 1


def test_logprobs(serve, cycle):
    server = serve("-m", cycle)
    answer = server.chat(max_tokens=3, logprobs=True, top_logprobs=4, temperature=0)
    content = answer.choices[0].logprobs.content
    assert "".join(item.token for item in content) == answer.choices[0].message.content
    for item in content:
        assert bytes(item.bytes).decode() == item.token
        assert item.logprob <= 0
        assert len(item.top_logprobs) == 4
        assert item.top_logprobs[0].token == item.token  # greedy
        probs = [top.logprob for top in item.top_logprobs]
        assert probs == sorted(probs, reverse=True)
    chunks = list(server.chat(max_tokens=3, logprobs=True, top_logprobs=4, temperature=0,
                              stream=True))
    streamed = [item for chunk in chunks if chunk.choices[0].logprobs
                for item in chunk.choices[0].logprobs.content]
    assert streamed == content
    old = server.client.completions.create(model="", prompt=" hs", max_tokens=2, logprobs=2)
    assert old.choices[0].logprobs.tokens == [" ht", " ia"]
    assert old.choices[0].logprobs.text_offset == [0, 3]


def test_logit_bias(serve, cycle):
    server = serve("-m", cycle)
    token = server.post("/tokenize", {"content": " hs"})["tokens"][0]
    answer = server.chat(max_tokens=1, logit_bias={str(token): -100})
    assert answer.choices[0].message.content != " hs"


def test_models(serve, say):
    client = serve("-m", say).client
    assert [model.id for model in client.models.list()] == [say.stem]
    assert client.models.retrieve(say.stem).owned_by == "hyprstream"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-4")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("fields, param", [
    ({"temperature": -1}, "temperature"),
    ({"n": 1000}, "n"),
    ({"stop": [""]}, "stop"),
    ({"messages": []}, "messages"),
    ({"tools": [{"type": "function", "function": {"name": "two words"}}]},
     "tools[0].function.name"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:"}}]}]}, "messages[0].content[0].type"),
])
def test_bad_requests(serve, say, fields, param):
    with pytest.raises(openai.BadRequestError) as error:
        serve("-m", say).chat(**fields)
    assert error.value.param == param
    assert error.value.type == "invalid_request_error"


def test_unknown_model(serve, say):
    with pytest.raises(openai.NotFoundError) as error:
        serve("-m", say).chat(model="gpt-4")
    assert error.value.param == "model"
    assert say.stem in error.value.message


def test_bad_grammar_and_long_prompt(serve, say):
    server = serve("-m", say, "--ctx-size", 256)
    with pytest.raises(openai.BadRequestError, match="grammar"):
        server.chat(extra_body={"grammar": "root ::= ("})
    with pytest.raises(openai.BadRequestError) as error:
        server.chat(messages=[{"role": "user", "content": "a b c d " * 400}])
    assert error.value.code == "context_length_exceeded"
    assert error.value.param == "messages"
    assert server.chat().choices[0].message.content == ANSWER


def test_several_models(serve, say, cycle):
    server = serve("-m", say, "--alias", "talker", "-m", cycle, "--alias", "letters")
    assert [model.id for model in server.client.models.list()] == ["talker", "letters"]
    assert server.chat().model == "talker"  # the first is the default
    assert server.chat(model="talker").choices[0].message.content == ANSWER
    answer = server.chat(model="letters", max_tokens=2)
    assert answer.model == "letters"
    assert answer.choices[0].message.content == " hs ht"
    with pytest.raises(openai.NotFoundError, match="'talker', 'letters'"):
        server.chat(model=say.stem)  # an alias takes the name's place
    assert server.get("/props?model=letters")["model_alias"] == "letters"
    assert re.search(r"model talker, context \d+, model letters, context \d+$", server.errors[-1])


def test_models_that_cannot_be_served_together(hs, say):
    result = hs.run("serve", "-m", say, "-m", say, "--port", 0)
    assert result.code == 17
    assert say.stem in result.err and "--alias" in result.err
    result = hs.run("serve", "-m", say, "-m", "/nowhere/b.gguf", "--port", 0)
    assert result.code == 3
    assert "b: " in result.err
    result = hs.run("serve", "-m", say, "--alias", "a", "--alias", "b", "--port", 0)
    assert result.code == 2


def test_server_start_is_serve(hs, say):
    assert "serve" in hs.ok("help", "server", "start").out
    result = hs.run("server", "start", "-m", say, "--host", "0.0.0.0", "--port", 0)
    assert result.code == 5
    result = hs.run("server")
    assert result.code == 2
    assert "start" in result.err


# ---- many clients ----

def test_a_client_that_leaves_frees_its_slot(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536)
    stream = server.chat(stream=True)
    next(iter(stream))
    server.wait_busy(1)
    stream.close()
    server.wait_busy(0)
    # without a stream, and one that never reads
    body = json.dumps({"messages": HI}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head % len(body) + body)
        server.wait_busy(1)
    server.wait_busy(0)


def test_sixteen_clients_at_once(serve, tiny):
    """Each answer is a function of its own prompt: nothing may be lost or crossed."""
    server = serve("-m", tiny("history"), "--max-sequences", 16)

    def ask(i, stream):
        messages = [{"role": "user", "content": "x" * (3 * i + 1)}]
        kwargs = dict(messages=messages, max_tokens=24, temperature=0)
        if stream:
            return text_of(server.chat(stream=True, **kwargs))
        return server.chat(**kwargs).choices[0].message.content

    alone = [ask(i, False) for i in range(16)]
    assert len(set(alone)) > 8
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            together = list(pool.map(lambda i: ask(i, i % 2 == 0), range(16)))
            assert together == alone
    server.wait_busy(0)


def test_queue_limit(serve, cycle):
    server = serve("-m", cycle, "--max-sequences", 1, "--max-queue", 1, "--ctx-size", 65536)
    running = server.chat(stream=True)
    next(iter(running))
    server.wait_busy(1)
    waiting = server.chat(stream=True)
    with pytest.raises(openai.RateLimitError) as error:
        server.chat()
    assert error.value.code == "queue_full"
    assert int(error.value.response.headers["Retry-After"]) >= 1
    running.close()
    assert next(iter(waiting)).choices[0].delta.role == "assistant"
    waiting.close()


def test_share_of_a_client(serve, cycle):
    server = serve("-m", cycle, "--max-sequences", 1, "--max-queue", 3, "--max-client-queue", 1,
                   "--ctx-size", 65536)
    running = server.chat(stream=True)
    next(iter(running))
    waiting = server.chat(stream=True)  # a stream has its headers before its turn
    with pytest.raises(openai.RateLimitError) as error:
        server.chat()
    assert error.value.code == "queue_full"
    assert "client '127.0.0.1' has 2 requests" in error.value.message
    running.close()
    assert next(iter(waiting)).choices[0].delta.role == "assistant"
    waiting.close()


# ---- curl and bare HTTP ----

def test_curl(serve, say):
    need("curl")
    server = serve("-m", say)
    body = json.dumps({"messages": HI, "stream": True})
    out = subprocess.run(["curl", "-sN", server.url + "/v1/chat/completions", "-d", body],
                         check=True, capture_output=True, timeout=TIMEOUT).stdout.decode()
    events = out.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(texts) == ANSWER


def test_llama_servers_endpoints(serve, say):
    server = serve("-m", say, "--max-sequences", 3)
    assert server.get("/health") == {"status": "ok"}
    assert server.get("/props")["total_slots"] == 3
    assert [slot["id"] for slot in server.get("/slots")] == [0, 1, 2]
    tokens = server.post("/tokenize", {"content": "Hello world"})["tokens"]
    assert server.post("/detokenize", {"tokens": tokens}) == {"content": "Hello world"}
    prompt = server.post("/apply-template", {"messages": HI})["prompt"]
    assert "Hi" in prompt and prompt.endswith("assistant\n")
    server.chat()
    with urllib.request.urlopen(server.url + "/metrics", timeout=TIMEOUT) as reply:
        text = reply.read().decode()
    assert re.search(r'^hyprstream_generated_tokens_total\{model="[^"]+"\} [1-9]', text, re.M)
    assert "/v1/chat/completions" in server.get("/openapi.json")["paths"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": NaN}', b'"\xff"',
                                  b"[" * 10000])
def test_bodies_that_are_no_json(serve, say, body):
    server = serve("-m", say)
    with pytest.raises(urllib.error.HTTPError) as error:
        server.post("/v1/chat/completions", body)
    assert error.value.code == 400
    assert json.load(error.value)["error"]["type"] == "invalid_request_error"


def test_the_page_is_compressed(serve, say):
    server = serve("--model", say)

    def get(path, coding):
        request = urllib.request.Request(server.url + path, headers={"Accept-Encoding": coding})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return reply.headers["Content-Encoding"], reply.read()

    _, page = get("/", "identity")
    files = re.findall(r'"(page/[^"]+)', page.decode())
    assert len(files) > 5
    for path in ["/", *("/" + file for file in files)]:
        assert get(path, "identity")[0] is None
        coding, text = get(path, "gzip")
        assert coding == "gzip"
        assert gzip.decompress(text) == get(path, "identity")[1]


def test_the_page_can_be_left_out(serve, say):
    with urllib.request.urlopen(serve("-m", say).url, timeout=TIMEOUT) as reply:
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    server = serve("-m", say, "--no-page")
    for path in ("/", "/page/app.js"):
        with pytest.raises(urllib.error.HTTPError) as error:
            server.get(path)
        assert error.value.code == 404
    assert "/page/{file}" not in server.get("/openapi.json")["paths"]


# ---- starting and stopping ----

def test_it_says_where_it_listens(serve, say):
    server = serve("-m", say)
    assert server.errors[-1] == (
        f"listening on http://127.0.0.1:{server.port}, model {say.stem}, context 4096\n")


def test_a_public_address_needs_keys(hs, say):
    result = hs.run("serve", "-m", say, "--host", "0.0.0.0", "--port", 0)
    assert result.code == 5
    assert "--insecure" in result.err


def test_a_port_in_use(hs, serve, say):
    server = serve("-m", say)
    result = hs.run("serve", "-m", say, "--port", server.port)
    assert result.code == 14
    assert str(server.port) in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain(serve, cycle, number):
    server = serve("-m", cycle)
    stream = iter(server.chat(stream=True, max_tokens=200))
    text = [next(stream).choices[0].delta.content]
    server.process.send_signal(number)
    text += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len("".join(text)) == 200 * len(" hs")
    assert server.wait() == 0


def test_a_drain_that_takes_too_long_is_cut(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--drain-timeout", 1)
    stream = iter(server.chat(stream=True))
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(openai.APIError, match="stopping"):
        for _ in stream:
            pass
    assert server.wait() == 0


def test_a_second_signal_stops_at_once(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--drain-timeout", 600)
    stream = iter(server.chat(stream=True))
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + TIMEOUT
    while not any(line.startswith("stopping") for line in server.errors):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert server.stop(signal.SIGTERM) == -signal.SIGTERM


def test_hup_reads_the_keys_again(serve, say):
    server = serve("-m", say)
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + TIMEOUT
    while not any("read the keys again: 0" in line for line in server.errors):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert server.chat().choices[0].message.content == ANSWER


def test_the_service_manager_is_told(serve, hs, say):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        name = f"hyprstream-{hs.folder.name}-{id(manager)}"
        manager.bind("\0" + name)
        hs.env["NOTIFY_SOCKET"] = "@" + name
        server = serve("-m", say)
        assert manager.recv(100) == b"READY=1"
        server.process.send_signal(signal.SIGHUP)
        assert [manager.recv(100) for _ in range(2)] == [b"RELOADING=1", b"READY=1"]
        assert server.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_keys(hs, serve, say):
    key = hs.ok("key", "create", "laptop").out.strip()
    server = serve("-m", say)
    with pytest.raises(openai.AuthenticationError):
        server.chat()
    assert server.get("/health") == {"status": "ok"}
    with server.client.with_options(api_key=key) as client:
        answer = client.chat.completions.create(model="", messages=HI)
        assert answer.choices[0].message.content == ANSWER
        hs.ok("key", "revoke", "laptop")
        hs.ok("key", "create", "other")
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + TIMEOUT
        while not any("read the keys again: 1" in line for line in server.errors):
            assert time.monotonic() < end
            time.sleep(0.01)
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="", messages=HI)
    assert hs.ok("key", "list", "--json").json[0]["name"] == "other"


def test_a_public_server_ends_with_its_last_key(hs, serve, say):
    hs.ok("key", "create", "a")
    server = serve("-m", say, "--host", "0.0.0.0")
    hs.ok("key", "revoke", "a")
    server.process.send_signal(signal.SIGHUP)
    assert server.wait() == 5
    assert any("--insecure" in line for line in server.errors)
