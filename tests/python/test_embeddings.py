"""Embeddings over HTTP, by OpenAI's own client, compared with BERT in numpy."""
import threading
import urllib.error
import urllib.request

import numpy as np
import openai
import pytest

from bert import Bert, tokenize

TEXTS = ["hello world", "a", "the quick brown fox jumps over it", "hello  World", "x 42 y"]


def cosine(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "none"])
def test_bert(serve, tiny, pooling):
    path = tiny("bert", pooling)
    model = Bert(path)
    client = serve("-m", path).client
    # the client's default is base64, which it decodes
    default = client.embeddings.create(model="", input=TEXTS)
    floats = client.embeddings.create(model="", input=TEXTS, encoding_format="float")
    assert [item.index for item in default.data] == list(range(len(TEXTS)))
    for i, text in enumerate(TEXTS):
        want = model.embedding(tokenize(text), "mean" if pooling == "none" else pooling)
        assert cosine(default.data[i].embedding, want) > 0.9999
        assert default.data[i].embedding == pytest.approx(want / np.linalg.norm(want), abs=1e-3)
        assert floats.data[i].embedding == pytest.approx(default.data[i].embedding, abs=1e-6)
    n_tokens = sum(len(tokenize(text)) for text in TEXTS)
    assert default.usage.prompt_tokens == default.usage.total_tokens == n_tokens


def test_tokens_and_dimensions(serve, tiny):
    path = tiny("bert", "mean")
    client = serve("-m", path).client
    tokens = [tokenize("hello world"), tokenize("fox")]
    answer = client.embeddings.create(model="", input=tokens, dimensions=8)
    for item, one in zip(answer.data, tokens):
        want = Bert(path).embedding(one, "mean")[:8]
        assert item.embedding == pytest.approx(want / np.linalg.norm(want), abs=1e-3)
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="", input="a", dimensions=33)
    assert error.value.param == "dimensions"


def test_an_input_that_is_too_long(serve, tiny):
    client = serve("-m", tiny("bert", "mean")).client
    longest = " ".join("a" * 62)  # and [CLS], [SEP]
    assert len(client.embeddings.create(model="", input=longest).data[0].embedding) == 32
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="", input=["a", longest + " a"])
    assert error.value.code == "context_length_exceeded"
    assert "input 1 has 65 tokens" in error.value.message
    assert "at most 64" in error.value.message


def test_an_encoder_generates_nothing(hs, serve, tiny):
    path = tiny("bert", "mean")
    server = serve("-m", path)
    with pytest.raises(openai.APIStatusError) as error:
        server.chat()
    assert error.value.status_code == 422
    assert "does not generate text" in error.value.message
    assert "/v1/embeddings" in error.value.message
    result = hs.run("chat", "-m", path, "Hi")
    assert result.code == 10
    assert "does not generate text" in result.err


def test_a_limit_of_inputs(serve, tiny):
    client = serve("-m", tiny("bert", "mean"), "--max-inputs", 3).client
    assert len(client.embeddings.create(model="", input=["a"] * 3).data) == 3
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="", input=["a"] * 4)
    assert error.value.param == "input"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="", input="")


def test_chats_and_embeddings_together(serve, say, tiny):
    """Exact answers of both, from many clients at once, of a chat model and of an encoder."""
    path = tiny("bert", "cls")
    server = serve("-m", say, "--alias", "say", "-m", path, "--alias", "bert")
    model = Bert(path)
    want = [model.embedding(tokenize(text), "cls") for text in TEXTS]
    own = np.array([item.embedding for item in
                    server.client.embeddings.create(model="say", input=TEXTS).data])
    errors = []

    def work(i):
        try:
            for _ in range(3):
                if i % 3 == 0:
                    answer = server.chat(model="say", stream=i % 2 == 0)
                    text = ("".join(c.choices[0].delta.content or "" for c in answer)
                            if i % 2 == 0 else answer.choices[0].message.content)
                    assert text == "Hello world, my friend"
                elif i % 3 == 1:
                    data = server.client.embeddings.create(model="bert", input=TEXTS).data
                    assert all(cosine(d.embedding, w) > 0.9999 for d, w in zip(data, want))
                else:
                    data = server.client.embeddings.create(model="say", input=TEXTS).data
                    assert np.abs(np.array([d.embedding for d in data]) - own).max() < 1e-4
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_curl_like_errors(serve, tiny):
    server = serve("-m", tiny("bert", "mean"))
    for body in (b"{}", b'{"input": []}', b'{"input": "a", "encoding_format": "f16"}'):
        with pytest.raises(urllib.error.HTTPError) as error:
            server.post("/v1/embeddings", body)
        assert error.value.code == 400


def test_rerank(serve, tiny):
    path = tiny("bert", "rank")
    server = serve("-m", path)
    query, documents = "brown fox", ["the quick fox", "a", "lazy dogs sleep", "brown fox"]
    model = Bert(path)
    want = [model.score(tokenize(query) + tokenize(text)[1:]) for text in documents]
    for route in ("/v1/rerank", "/rerank"):
        answer = server.post(route, {"query": query, "documents": documents})
        order = sorted(range(4), key=lambda i: -want[i])
        assert [row["index"] for row in answer["results"]] == order
        scores = [row["relevance_score"] for row in answer["results"]]
        assert scores == pytest.approx([want[i] for i in order], abs=1e-3)
    n = sum(len(tokenize(query)) + len(tokenize(text)) - 1 for text in documents)
    assert answer["usage"]["prompt_tokens"] == n
    with pytest.raises(openai.BadRequestError) as error:
        server.client.embeddings.create(model="", input="a")
    assert "ranks documents" in error.value.message


def test_models_say_what_they_cannot_do(serve, say, tiny):
    server = serve("-m", tiny("bert", "mean"), "-m", say)
    for model in (None, say.stem):
        for path, body in (("/v1/rerank", {"query": "a", "documents": ["b"]}),
                           ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
                           ("/v1/completions", {"prompt": "a", "suffix": "b"})):
            with pytest.raises(urllib.error.HTTPError) as error:
                server.post(path, {**body, "model": model})
            assert error.value.code == 400


def test_infill(serve, tiny):
    """The middle token leads into the text; whatever stands before it, the gap is filled."""
    server = serve("-m", tiny("infill", "return 42;"))
    body = {"input_prefix": "int f() { ", "input_suffix": " }", "n_predict": 64, "temperature": 0,
            "input_extra": [{"filename": "a.h", "text": "int f();"}]}
    answer = server.post("/infill", body)
    assert answer["content"] == "return 42;"
    assert answer["stop"] is True and answer["stop_type"] == "eos"
    assert server.post("/infill", {**body, "n_predict": 2})["stop_type"] == "limit"
    assert server.post("/infill", {**body, "stop": ["42"]})["content"] == "return "
    create = server.client.completions.create
    answer = create(model="", prompt="int f() { ", suffix=" }", max_tokens=64, temperature=0)
    assert answer.choices[0].text == "return 42;"
    chunks = create(model="", prompt="a", suffix="b", max_tokens=64, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "return 42;"
    # files give way, the gap does not: with the smallest context it still fits
    small = serve("-m", tiny("infill", "return 42;"), "--ctx-size", 256)
    files = [{"filename": f"{i}.c", "text": "x" * 100} for i in range(20)]
    answer = small.post("/infill", {**body, "input_extra": files})
    assert answer["content"] == "return 42;"
    assert answer["tokens_evaluated"] == 256 - 64
    with pytest.raises(urllib.error.HTTPError) as error:
        small.post("/infill", {**body, "input_prefix": "x" * 300})
    assert error.value.code == 400


def test_memory_and_figures(serve, say):
    """The context for embeddings comes with the first request, and counts."""
    server = serve("-m", say)
    before = server.get("/api/v1/status")["models"][0]["memory"]
    server.client.embeddings.create(model="", input=["Hello", "Hello"])
    after = server.get("/api/v1/status")["models"][0]["memory"]
    assert after["weights_bytes"] == before["weights_bytes"]
    assert after["kv_bytes"] > before["kv_bytes"]
    assert after["compute_bytes"] > before["compute_bytes"]
    with urllib.request.urlopen(server.url + "/metrics") as reply:
        text = reply.read().decode()
    assert f'hyprstream_embedded_inputs_total{{model="{say.stem}"}} 2\n' in text
    assert f'hyprstream_embedding_requests{{model="{say.stem}"}} 0\n' in text
