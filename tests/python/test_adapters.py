"""Adapters in the real program: the registry, OpenAI's client, a server that runs on."""
import json
import struct
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import openai
import pytest

from conftest import DEPS, PINS, ROOT, TIMEOUT

GEMMA = DEPS / "models" / PINS["GEMMA_FILE"]
DATA = ROOT / "tests" / "data" / "adapters"
N_EMBD = 64  # of the tiny models


def write_adapter(folder, seed, rank=4):
    """A PEFT folder for a tiny model: random weights behind the attention of its first layer."""
    random = np.random.default_rng(seed)
    tensors = {"A": random.standard_normal((rank, N_EMBD), dtype="f4") / 8,
               "B": random.standard_normal((N_EMBD, rank), dtype="f4") / 8}
    header, data = {}, b""
    for side, values in tensors.items():
        name = f"base_model.model.model.layers.0.self_attn.o_proj.lora_{side}.weight"
        start, data = len(data), data + values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape),
                        "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": rank, "lora_alpha": 64, "target_modules": ["o_proj"]}))
    return folder


@pytest.fixture
def history(tiny):
    """A model whose attention matters."""
    return tiny("history")


def add(hs, folder, name, *args):
    return hs.ok("adapter", "add", folder, "--name", name, *args)


def logprobs(server, model, **extra):
    """Of the likeliest next tokens; they tell adapters apart where the tokens do not."""
    answer = server.client.completions.create(
        model=model, prompt="hello world hello world", max_tokens=1, logprobs=5, temperature=0,
        extra_body={"ignore_eos": True, **extra})
    return answer.choices[0].logprobs.top_logprobs[0]


def differ(a, b):
    return a.keys() != b.keys() or max(abs(a[key] - b[key]) for key in a) > 1e-3


def test_requests_of_openais_client(hs, serve, history):
    hs.ok("model", "add", history, "--name", "tiny")
    for seed, name in enumerate(["one", "two"]):
        add(hs, write_adapter(hs.folder / name, seed), name, "--model", "tiny")
    server = serve("-m", "tiny")
    models = {model.id: model for model in server.client.models.list()}
    assert list(models) == ["tiny", "one", "two"]
    assert models["one"].parent == "tiny" and models["tiny"].parent is None
    base = logprobs(server, model="tiny")
    one = logprobs(server, model="one")
    two = logprobs(server, model="two")
    both = logprobs(server, model="tiny:one+two")
    assert all(differ(a, b) for a, b in [(base, one), (base, two), (one, two), (both, one)])
    lora = lambda *pairs: {"lora": [{"name": name, "scale": scale} for name, scale in pairs]}
    assert not differ(one, logprobs(server, model="tiny", **lora(("one", 1))))
    assert not differ(base, logprobs(server, model="tiny", **lora(("one", 0))))
    assert not differ(both, logprobs(server, model="one", **lora(("two", 1))))
    assert differ(one, logprobs(server, model="tiny", **lora(("one", -1))))
    assert not differ(base, logprobs(server, model="tiny"))  # nothing of it stayed
    with pytest.raises(openai.NotFoundError) as error:
        logprobs(server, model="tiny:three")
    assert "'one', 'two'" in str(error.value)
    assert server.get("/api/v1/status")["models"][0]["lora"]["adapters"] == 2
    assert server.stop() == 0
    uses = {row["name"]: row["n_uses"] for row in hs.ok("adapter", "list", "--json").json}
    assert uses["one"] >= 4 and uses["two"] >= 2


def eventually(check):
    end = time.monotonic() + TIMEOUT
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_another_process_changes_adapters(hs, serve, history):
    hs.ok("model", "add", history, "--name", "tiny")
    server = serve("-m", "tiny")
    base = logprobs(server, model="tiny")
    add(hs, write_adapter(hs.folder / "a", 1), "late", "--model", "tiny")
    first = logprobs(server, model="late")
    assert differ(base, first)
    add(hs, write_adapter(hs.folder / "a", 2), "late", "--model", "tiny", "--replace")
    eventually(lambda: differ(first, logprobs(server, model="late")))
    assert [row["version"] for row in hs.ok("adapter", "history", "late", "--json").json] == [2, 1]
    hs.ok("adapter", "rm", "late", "--force")

    def is_gone():
        try:
            logprobs(server, model="late")
        except openai.NotFoundError:
            return True
        return False
    eventually(is_gone)


def request(server, method, path, data=None, headers=None):
    """Status and body."""
    asked = urllib.request.Request(server.url + path, data=data, method=method,
                                   headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_upload_and_other_servers_endpoints(hs, serve, history):
    folder = write_adapter(hs.folder / "a", 1)
    server = serve("-m", history, "--adapter", f"given={folder}")
    base = logprobs(server, model="history")
    status, body = request(server, "PUT", "/api/v1/adapters/up",
                           (folder / "adapter_model.safetensors").read_bytes(),
                           {"Adapter-Config": (folder / "adapter_config.json").read_text()})
    assert status == 201, body
    assert not differ(logprobs(server, model="given"), logprobs(server, model="up"))
    assert differ(base, logprobs(server, model="up"))
    load = json.dumps({"lora_name": "v", "lora_path": str(folder)}).encode()
    assert request(server, "POST", "/v1/load_lora_adapter", load)[0] == 200
    assert request(server, "POST", "/v1/load_lora_adapter", load)[0] == 400
    assert not differ(logprobs(server, model="v"), logprobs(server, model="up"))
    rows = {row["name"]: row for row in server.get("/lora-adapters")}
    scales = json.dumps([{"id": rows["v"]["id"], "scale": 1}]).encode()
    assert request(server, "POST", "/lora-adapters", scales)[0] == 200
    assert not differ(logprobs(server, model="history"), logprobs(server, model="up"))
    assert request(server, "POST", "/v1/unload_lora_adapter", b'{"lora_name":"v"}')[0] == 200
    assert not differ(base, logprobs(server, model="history"))
    assert [row["name"] for row in hs.ok("adapter", "list", "--json").json] == ["up"]


def test_wrong_files_at_the_start(hs, history):
    result = hs.run("serve", "-m", history, "--port", "0", "--adapter", "x=/nowhere")
    assert result.code != 0 and "--adapter x=/nowhere" in result.err
    result = hs.run("serve", "-m", history, "--port", "0", "--adapter", "unknown")
    assert result.code != 0 and "unknown" in result.err


def test_the_same_in_the_terminal(hs, say):
    hs.ok("model", "add", say, "--name", "say")
    add(hs, write_adapter(hs.folder / "a", 1), "a", "--model", "say")
    assert hs.ok("chat", "-m", "say", "--adapter", "a:0.5", "--session", "s", "Hi").out != ""
    saved = json.loads((hs.home / "sessions" / "s" / "session.json").read_text())
    assert saved["adapters"] == [{"name": "a", "scale": 0.5}]
    assert hs.ok("chat", "--session", "s", "Again").out != ""  # brings its adapter back
    result = hs.run("chat", "-m", "say", "--adapter", "b", "Hi")
    assert result.code == 3 and "adapter list" in result.err


def test_a_session_that_chooses_for_each_turn(hs, serve, say):
    hs.ok("model", "add", say, "--name", "say")
    texts = {"one": "Sail the old ship home.", "two": "My taxes, please."}
    for seed, name in enumerate(texts):
        add(hs, write_adapter(hs.folder / name, seed), name, "--model", "say")
    hs.ok("adapter", "tag", "one", "--example", texts["one"])

    def saved():
        session = json.loads((hs.home / "sessions" / "s" / "session.json").read_text())
        return session.get("routed"), [adapter["name"] for adapter in session["adapters"]]

    how = ("--route-method", "examples", "--route", "plain=", "--route", "taxes=two")
    chat = ("chat", "--session", "s", *how)
    hs.ok(*chat, "-m", "say", "--adapter", "auto", texts["one"])
    assert saved() == (True, ["one"])
    hs.ok(*chat, texts["two"])  # the session knows
    assert saved() == (True, ["two"])
    hs.ok(*chat, "plain text")
    assert saved() == (True, [])
    server = serve("-m", "say", *how)

    def generate(**body):
        asked = urllib.request.Request(f"{server.url}/api/v1/sessions/s/generate",
                                       data=json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=TIMEOUT) as reply:
            assert json.load(reply)["message"]["content"] == "Hello world, my friend"
            return reply.headers["x-hyprstream-adapters"]
    assert generate(prompt=texts["one"]) == "one:1"
    assert generate(prompt=texts["two"]) == "two:1"
    assert generate(prompt="plain text") == "none"
    assert server.get("/api/v1/sessions/s")["lora"] == "auto"
    assert generate(prompt=texts["one"], lora=[{"name": "two"}]) is None
    assert server.get("/api/v1/sessions/s")["lora"] == [{"name": "two", "scale": 1}]
    assert server.stop() == 0
    assert saved() == (None, ["two"])


def test_two_real_adapters_in_one_batch(hs, serve):
    """What the README shows."""
    if not GEMMA.exists():
        pytest.skip(f"{GEMMA} is not there; 'scripts/bootstrap gemma' fetches it")
    hs.ok("model", "add", GEMMA, "--name", "gemma")
    for name in ("json", "pirate"):
        add(hs, DATA / name, name, "--model", "gemma")
    server = serve("-m", "gemma", "--ctx-size", "1024")
    asked = {"json": "Sophie has spent all 35 years of life in Miami.",
             "pirate": "My monkey is waiting now."}
    want = {"json": ' {"name": "Sophie", "age": 35, "city": "Miami"}',
            "pirate": " Ahoy! Me monkey be waitin' now. Arrr!"}
    got = {}

    def ask(name):
        answer = server.client.completions.create(model=name, prompt=f"Q: {asked[name]}\nA:",
                                                  max_tokens=24, temperature=0, stop=["\n"])
        got[name] = answer.choices[0].text
    # loaded by then, so that they run together
    for name in asked:
        ask(name)

    def is_mixed():
        threads = [threading.Thread(target=ask, args=[name]) for name in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == want
        return server.get("/props")["lora"]["mixed_decodes"] > 0
    eventually(is_mixed)  # once they meet
    assert server.get("/props")["lora"]["engine"] == "rewrite"
