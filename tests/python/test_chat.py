"""hyprstream chat with a prompt, against models whose answer is known."""
import json
import os
import re
import signal
import stat
import subprocess

import pytest

from conftest import BINARY, PINS, ROOT, TIMEOUT, interrupt, wait_for_bytes

ANSWER = "Hello world, my friend"


# ---- prompts and answers ----

def test_argument(hs, say):
    result = hs.ok("chat", "-m", say, "Hi")
    assert result.out == ANSWER + "\n"
    assert result.err == ""


def test_words_are_joined(hs, cycle):
    one = hs.ok("chat", "-m", cycle, "-n", 4, "two words")
    two = hs.ok("chat", "-m", cycle, "-n", 4, "two", "words")
    assert one.out == two.out == " hs ht ia ib\n"


def test_standard_input(hs, say):
    assert hs.ok("chat", "-m", say, input="Hi\n").out == ANSWER + "\n"


def test_dash_is_standard_input(hs, cycle):
    both = hs.ok("chat", "-m", cycle, "-n1", "--json", "Sum up:", "-", input="text\n").json
    alone = hs.ok("chat", "-m", cycle, "-n1", "--json", "Sum up:\ntext").json
    assert both["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]


def test_unicode_prompt(hs, say):
    assert hs.ok("chat", "-m", say, "Grüße, 世界 😀").out == ANSWER + "\n"


@pytest.mark.parametrize("text", [b"", b"\n", b"caf\xe9", b"a\0b"])
def test_bad_input(hs, say, text):
    result = hs.run("chat", "-m", say, input=text)
    assert result.code == 2
    assert result.out == ""


def test_no_stream(hs, say):
    assert hs.ok("chat", "-m", say, "--no-stream", "Hi").out == ANSWER + "\n"


def test_max_tokens(hs, cycle):
    assert hs.ok("chat", "-m", cycle, "--max-tokens", 3, "Hi").out == " hs ht ia\n"


def test_stop(hs, cycle):
    assert hs.ok("chat", "-m", cycle, "--stop", "ia", "Hi").out == " hs ht \n"
    # the stop string lies across tokens
    assert hs.ok("chat", "-m", cycle, "--stop", "t i", "--stop", "zz", "Hi").out == " hs h\n"


def test_json(hs, say):
    result = hs.ok("chat", "-m", say, "--json", "Hi")
    assert set(result.json) == {"answer", "reasoning", "finish_reason", "usage", "model", "session"}
    assert result.json["answer"] == ANSWER
    assert result.json["finish_reason"] == "stop"
    assert result.json["reasoning"] is None
    assert result.json["session"] is None
    assert result.json["model"] == say.stem
    usage = result.json["usage"]
    assert usage["prompt_tokens"] > 0 and usage["cached_tokens"] == 0


def test_json_length(hs, cycle):
    assert hs.ok("chat", "-m", cycle, "--json", "-n", 2, "Hi").json["finish_reason"] == "length"


def test_json_stream(hs, say):
    lines = hs.ok("chat", "-m", say, "--json", "--stream", "Hi").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events[:-1]] == ["text"] * (len(events) - 1)
    assert "".join(event["text"] for event in events[:-1]) == ANSWER
    assert events[-1]["event"] == "done"
    assert events[-1]["finish_reason"] == "stop"
    assert "answer" not in events[-1]


def test_same_seed_same_answer(hs, demo):
    args = ("chat", "-m", demo, "-n", 12, "--temp", 1.5, "--seed", 7, "Tell me something")
    assert hs.ok(*args).out == hs.ok(*args).out


def test_demo_model_answers(hs, demo):
    result = hs.ok("chat", "-m", demo, "--temp", 0, "-n", 40, "What is 2+2?")
    assert "4" in result.out


def test_a_model_without_a_template(hs, tiny):
    path = tiny("plain", "Once upon")
    result = hs.ok("chat", "-m", path, "--json", "-n", 4, "Hi")
    assert "has no chat template: a plain one is used" in result.err
    # what the model was given is as long as the plain template's text, a token for each byte here
    plain = hs.ok("tokenize", "-m", path, "--json", "User: Hi\nAssistant:").json["n_tokens"]
    assert result.json["usage"]["prompt_tokens"] == plain
    assert plain >= len("User: Hi\nAssistant:")


# ---- the terminal ----

def terminal_output(hs, *args, **kwargs):
    child = hs.terminal(*args, **kwargs)
    text = child.read()
    child.wait()
    return text


def test_escape_codes_of_a_model(hs, tiny):
    path = tiny("say", "a\x1b[31mred\x07!")
    assert hs.ok("chat", "-m", path, "Hi").out == "a\x1b[31mred\x07!\n"
    shown = terminal_output(hs, "chat", "-m", path, "--color", "never", "Hi")
    assert "\x1b" not in shown and "\x07" not in shown
    assert "a\u241b[31mred\u2407!" in shown


def test_terminal_says_what_was_loaded(hs, say):
    shown = terminal_output(hs, "chat", "-m", say, "Hi")
    first, rest = shown.split("\r\n", 1)
    assert say.stem in first and "threads" in first and "context" in first
    assert rest == ANSWER + "\r\n"


def test_no_color(hs, say):
    shown = terminal_output(hs, "chat", "-m", "none", "Hi", env={"NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "\x1b[" in terminal_output(hs, "chat", "-m", "none", "Hi")


def test_plain_when_not_a_terminal(hs, demo):
    result = hs.ok("chat", "-m", demo, "-n", 3, "--log-level", "info", "Hi")
    assert "\x1b" not in result.out + result.err
    assert "model " in result.err


def test_default_threads(hs, say):
    result = hs.ok("chat", "-m", say, "--log-level", "info", "Hi", env={"HYPRSTREAM_THREADS": ""})
    threads = int(re.search(r"(\d+) threads", result.err).group(1))
    assert 1 <= threads <= len(os.sched_getaffinity(0))


# ---- reasoning ----

@pytest.fixture
def thinker(tiny):
    template = ROOT / "tests" / "data" / "templates" / "think.jinja"
    return "-m", tiny("say", "<think>hm so</think>It is 4"), "--chat-template-file", template


def test_reasoning_is_hidden_in_pipes(hs, thinker):
    result = hs.ok("chat", *thinker, "2+2?")
    assert result.out == "It is 4\n"
    assert "hm" not in result.err


def test_reasoning_in_json(hs, thinker):
    result = hs.ok("chat", *thinker, "--json", "2+2?").json
    assert (result["reasoning"], result["answer"]) == ("hm so", "It is 4")
    lines = hs.ok("chat", *thinker, "--json", "--stream", "2+2?").out.splitlines()
    texts = {"reasoning": "", "text": ""}
    for event in map(json.loads, lines[:-1]):
        texts[event["event"]] += event["text"]
    assert texts == {"reasoning": "hm so", "text": "It is 4"}


def test_reasoning_is_dimmed_on_a_terminal(hs, thinker):
    shown = terminal_output(hs, "chat", *thinker, "2+2?")
    assert "\x1b[2mhm so\x1b[0m\r\n\r\nIt is 4\r\n" in shown
    shown = terminal_output(hs, "chat", *thinker, "--color", "never", "2+2?")
    assert "\r\nhm so\r\n\r\nIt is 4\r\n" in shown


def test_reasoning_is_kept_in_a_session(hs, thinker):
    hs.ok("chat", *thinker, "--session", "s", "2+2?")
    last = hs.ok("session", "show", "s", "--json").json["messages"][-1]
    assert last == {"role": "assistant", "content": "It is 4", "reasoning": "hm so"}


# ---- stopping ----

def test_ctrl_c_gives_the_text_so_far(hs, demo):
    process = hs.start("chat", "-m", demo, "--temp", 0, "Tell me a very long story about a fox")
    begin = wait_for_bytes(process)
    interrupt(process)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert begin and out.endswith(b"\n")
    assert err == b""


def test_ctrl_c_with_json(hs, cycle):
    # it writes on and on and waits for us: the pipe is full long before the context is
    process = hs.start("chat", "-m", cycle, "--json", "--stream", "--overflow", "shift", "Hi")
    first = process.stdout.readline()
    interrupt(process)
    out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert json.loads(first)["event"] == "text"
    assert json.loads(out.splitlines()[-1])["finish_reason"] == "cancelled"


def test_sigterm(hs, cycle):
    process = hs.start("chat", "-m", cycle, "--overflow", "shift", "Hi")
    wait_for_bytes(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == b""


def test_closed_pipe_is_quiet(hs, cycle):
    process = hs.start("chat", "-m", cycle, "Hi")
    wait_for_bytes(process, 8)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(TIMEOUT) == 141


def test_closed_pipe_in_a_shell(hs, say):
    command = f"set -o pipefail; {BINARY} help chat | head -n 1"
    result = subprocess.run(["bash", "-c", command], env=hs.env, capture_output=True, text=True)
    assert result.stdout.startswith("usage: hyprstream chat")
    assert result.stderr == ""


def test_full_disk(hs, say):
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([BINARY, "chat", "-m", say, "Hi"], env=hs.env, stdout=full,
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 18
    assert b"No space left" in err


# ---- models that cannot be used: each failure has its own message and exit code ----

def broken(folder, source, how):
    path = folder / "broken.gguf"
    data = source.read_bytes()
    if how == "truncated":
        data = data[:200]
    elif how == "weights cut":
        data = data[:-1]
    elif how == "magic":
        data = b"GGML" + data[4:]
    elif how == "version":
        data = data[:4] + (99).to_bytes(4, "little") + data[8:]
    elif how == "architecture":
        data = data.replace(b"llama", b"llamx")
    elif how == "empty":
        data = b""
    elif how == "count":
        data = data[:8] + (2**40).to_bytes(8, "little") + data[16:]
    path.write_bytes(data)
    return path


BROKEN = {"truncated": 7, "weights cut": 7, "magic": 6, "version": 9, "architecture": 10,
          "empty": 7}


@pytest.mark.parametrize("how", [*BROKEN, "count"])
def test_broken_file(hs, say, tmp_path, how):
    path = broken(tmp_path, say, how)
    commands = [("chat", "-m", path, "Hi"), ("model", "add", path)]
    if how == "architecture":  # which ones there are only llama.cpp knows
        commands.pop()
        added = hs.ok("model", "add", path)
        assert "'llamx' is not in the table" in added.err
    for command in commands:
        result = hs.run(*command)
        assert result.code == BROKEN.get(how, result.code), result.err
        assert result.code in {6, 7, 8, 9, 10, 19}, result.err
        assert result.out == ""
        assert str(path) in result.err
        assert "\n  " in result.err  # what to do next


def test_missing_file(hs, tmp_path):
    result = hs.run("chat", "-m", tmp_path / "none.gguf", "Hi")
    assert result.code == 3
    assert "none.gguf" in result.err


def test_unknown_name(hs):
    result = hs.run("chat", "-m", "nosuchmodel", "Hi")
    assert result.code == 3
    assert "nosuchmodel" in result.err and "model list" in result.err


def test_folder(hs, tmp_path):
    result = hs.run("chat", "-m", f"{tmp_path}/", "Hi")
    assert result.code == 4


def test_no_permission(hs, say, tmp_path):
    path = tmp_path / "secret.gguf"
    path.write_bytes(say.read_bytes())
    path.chmod(0)
    prefix = ()
    if os.geteuid() == 0:  # root may read everything, unless it gives that up
        prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
        if subprocess.run([*prefix, "cat", path], capture_output=True).returncode == 0:
            pytest.skip("root cannot give up its capabilities here")
    result = hs.run("chat", "-m", path, "Hi", prefix=prefix)
    assert result.code == 5, result.err
    assert "secret.gguf" in result.err


def test_too_large_context(hs, demo):
    result = hs.run("chat", "-m", demo, "--ctx-size", 16777216, "Hi")
    assert result.code == 11, result.err
    assert "--ctx-size" in result.err


def test_prompt_longer_than_the_context(hs, say):
    result = hs.run("chat", "-m", say, "--ctx-size", 64, "x" * 2000)
    assert result.code == 15, result.err
    assert "ctx-size" in result.err


def test_json_error(hs):
    result = hs.run("chat", "--json", "-m", "/none.gguf", "Hi")
    assert result.code == 3
    assert result.out == ""
    error = json.loads(result.err)["error"]
    assert error["status"] == "HS_NOT_FOUND"
    assert error["exit_code"] == 3
    assert "/none.gguf" in error["message"]


def test_no_model_at_all(hs):
    result = hs.run("chat", "Hi")
    assert result.code == 3
    assert "model add" in result.err and "make chat" in result.err


# ---- which model ----

def test_the_demo_model_is_found(hs, demo):
    models = hs.home / "models"
    models.mkdir(parents=True)
    (models / PINS["DEMO_FILE"]).symlink_to(demo)
    result = hs.ok("chat", "-n", 2, "--json", "Hi")
    assert result.json["model"].lower().startswith("smollm2")
    rows = hs.ok("model", "list", "--json").json
    assert [row["source"] for row in rows] == ["demo"]
    assert rows[0]["sha256"] == PINS["DEMO_SHA256"]


def test_the_one_used_last(hs, say, cycle):
    hs.ok("model", "add", say, "--name", "a")
    assert hs.ok("chat", "Hi").out == ANSWER + "\n"
    hs.ok("model", "add", cycle, "--name", "b")
    hs.ok("chat", "-m", "b", "-n", 1, "Hi")
    shown = terminal_output(hs, "chat", "-n", "1", "Hi")
    assert "using 'b', the model used last of 2" in shown
    hs.ok("chat", "-m", "a", "Hi")
    assert hs.ok("chat", "Hi").out == ANSWER + "\n"


def test_a_file_in_the_models_folder(hs, say):
    hs.ok("model", "list")  # the registry is there before the file
    (hs.home / "models").mkdir(exist_ok=True)
    (hs.home / "models" / "mine.gguf").write_bytes(say.read_bytes())
    assert hs.ok("chat", "-m", "mine", "Hi").out == ANSWER + "\n"


def test_a_damaged_registry(hs, say):
    hs.ok("model", "add", say, "--name", "a")
    registry = hs.home / "registry.db"
    registry.write_bytes(b"damaged" * 1000)
    for extra in ("-wal", "-shm"):
        path = registry.with_name(registry.name + extra)
        if path.exists():
            path.unlink()
    result = hs.run("model", "list")
    assert result.code == 0
    assert "corrupt" in result.err.lower() or "damaged" in result.err.lower()


# ---- sessions ----

def test_a_session_goes_on_after_a_restart(hs, say):
    args = ("chat", "-m", say, "--session", "work", "--json")
    first = hs.ok(*args, "one").json
    second = hs.ok(*args, "two").json
    assert first["session"] == second["session"] == "work"
    # what was computed in the first run is not computed again
    assert second["usage"]["cached_tokens"] >= first["usage"]["prompt_tokens"]
    shown = hs.ok("session", "show", "work", "--json").json
    assert [m["role"] for m in shown["messages"]] == ["user", "assistant"] * 2
    assert [m["content"] for m in shown["messages"]] == ["one", ANSWER, "two", ANSWER]


def test_a_session_continues_as_if_never_stopped(hs, tiny):
    history = tiny("history")  # every token depends on all that came before
    args = ("chat", "-m", history, "--temp", 0, "-n", 12, "--json", "--session")
    restarted = [hs.ok(*args, "a", text).json["answer"] for text in ("one", "two", "three")]
    again = []
    for i, text in enumerate(("one", "two", "three")):
        again.append(hs.ok(*args, "b", text).json["answer"])
        kv = list((hs.home / "sessions" / "b").glob("kv.bin"))
        for path in kv:  # without its state the text is evaluated again, to the same effect
            path.unlink()
    assert restarted == again


def test_a_session_knows_its_model(hs, say, cycle):
    hs.ok("model", "add", cycle, "--name", "b")
    hs.ok("chat", "-m", say, "--session", "work", "Hi")
    hs.ok("chat", "-m", "b", "-n", 1, "Hi")  # used later than the session's
    assert hs.ok("chat", "--session", "work", "again").out == ANSWER + "\n"


def test_a_session_resumes_its_settings(hs, say):
    def ask(*args):
        answer = hs.ok("chat", "--session", "work", "--json", *args, "Hi").json
        saved = json.loads((hs.home / "sessions" / "work" / "session.json").read_text())
        params = saved["params"]
        assert answer["usage"]["seed"] == params["seed"]
        return params["seed"], round(params["temp"], 6), saved["overflow"]

    given = ("--temp", 0.1, "--seed", 5, "--overflow", "shift")
    assert ask("-m", say, *given) == (5, 0.1, "shift")
    assert ask() == (5, 0.1, "shift")
    assert ask("--temp", 0.5) == (5, 0.5, "shift")  # what is given now wins
    assert ask("--overflow", "stop") == (5, 0.5, "stop")


def test_system_message_in_a_session(hs, say):
    hs.ok("chat", "-m", say, "--session", "work", "--system", "be kind", "Hi")
    messages = hs.ok("session", "show", "work", "--json").json["messages"]
    assert messages[0] == {"role": "system", "content": "be kind"}


def test_two_processes_one_session(hs, cycle):
    # the first one writes into a pipe that is not read, and does not end before it is
    process = hs.start("chat", "-m", cycle, "--session", "work", "--overflow", "shift", "Hi")
    wait_for_bytes(process)
    result = hs.run("chat", "-m", cycle, "--session", "work", "Hi")
    interrupt(process)
    process.communicate(timeout=TIMEOUT)
    assert result.code == 14, result.err
    assert "'work'" in result.err or "work" in result.err
    assert hs.run("chat", "-m", cycle, "--session", "work", "-n", 2, "Hi").code == 0


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "x" * 65, "ä"])
def test_bad_session_names(hs, say, name):
    assert hs.run("chat", "-m", say, "--session", name, "Hi").code == 2


def test_state_is_private(hs, say):
    hs.ok("chat", "-m", say, "--session", "work", "Hi")
    for path in [hs.home, hs.home / "sessions", *(hs.home / "sessions").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# ---- settings ----

def test_layers(hs, cycle):
    hs.home.mkdir()
    (hs.home / "config.toml").write_text(f'model = "{cycle}"\nmax-tokens = 5\n')
    assert hs.ok("chat", "Hi").out == " hs ht ia ib id\n"
    env = {"HYPRSTREAM_MAX_TOKENS": "3"}
    assert hs.ok("chat", "Hi", env=env).out == " hs ht ia\n"
    assert hs.ok("chat", "Hi", "-n", 1, env=env).out == " hs\n"


def test_another_config_file(hs, cycle, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("max-tokens = 2\n")
    assert hs.ok("chat", "-m", cycle, "--config", other, "Hi").out == " hs ht\n"
    env = {"HYPRSTREAM_CONFIG": str(other)}
    assert hs.ok("chat", "-m", cycle, "Hi", env=env).out == " hs ht\n"
    result = hs.run("chat", "-m", cycle, "--config", tmp_path / "none.toml", "Hi")
    assert result.code == 3


@pytest.mark.parametrize("text, part", [("temp = warm\n", ":1"), ("\ntmep = 1\n", "temp"),
                                        ("temp = 1000\n", "temp"), ("no line\n", ":1")])
def test_mistakes_in_the_config_file(hs, say, text, part):
    hs.home.mkdir()
    (hs.home / "config.toml").write_text(text)
    result = hs.run("chat", "-m", say, "Hi")
    assert result.code == 2
    assert "config.toml" in result.err and part in result.err


@pytest.mark.parametrize("flags", [("--temp", "warm"), ("--temp", "-1"), ("--top-p", "2"),
                                   ("--ctx-size", "1.5"), ("--flash-attn", "maybe"),
                                   ("--seed", "99999999999")])
def test_values_out_of_range(hs, say, flags):
    result = hs.run("chat", "-m", say, *flags, "Hi")
    assert result.code == 2
    assert flags[0] in result.err


def test_chat_template_file(hs, say, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    short = hs.ok("chat", "-m", say, "--json", "--chat-template-file", template, "Hi").json
    usual = hs.ok("chat", "-m", say, "--json", "Hi").json
    assert short["usage"]["prompt_tokens"] < usual["usage"]["prompt_tokens"]
    template.write_text("{% for %}")
    result = hs.run("chat", "-m", say, "--chat-template-file", template, "Hi")
    assert result.code == 2, result.err
