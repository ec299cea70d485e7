"""hyprstream chat --server against a running server."""
import signal

from conftest import TIMEOUT, interrupt, wait_for_bytes

ANSWER = "Hello world, my friend"


def test_one_question(hs, serve, say):
    server = serve("-m", say, "--alias", "friend")
    assert hs.ok("chat", "--server", server.url, "Hi").out == ANSWER + "\n"
    answer = hs.ok("chat", "--server", server.url, "--json", "Hi").json
    assert answer["answer"] == ANSWER
    assert answer["model"] == "friend"
    assert answer["usage"]["cached_tokens"] > 0  # asked before
    answer = hs.ok("chat", "--max-tokens", 1, "--json", "Hi",
                   env={"HYPRSTREAM_SERVER": server.url}).json
    assert answer["finish_reason"] == "length"
    result = hs.run("chat", "--server", server.url, "-m", "gpt-4", "Hi")
    assert result.code == 3
    assert "friend" in result.err


def test_a_conversation(hs, serve, tiny):
    """The whole conversation goes to the model each time, as it does without a server."""
    server = serve("-m", tiny("history"))
    child = hs.terminal("chat", "--server", server.url, "--temp", 0, "--max-tokens", 8)
    here = hs.terminal("chat", "-m", tiny("history"), "--temp", 0, "--max-tokens", 8)
    for line in ("one", "two", "/regen", "three"):
        texts = []
        for terminal in (child, here):
            terminal.expect_exact("> ")
            terminal.sendline(line)
            terminal.expect_exact(line)
            terminal.expect(r"\[cut off after 8 tokens\]")
            texts.append(terminal.before.strip())
        assert texts[0] == texts[1]
    child.expect_exact("> ")
    child.sendline("/stats")
    child.expect("server   0 requests running")
    child.sendline("/exit")
    child.expect("\r\n")


def test_ctrl_c_frees_the_sequence(hs, serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536)
    process = hs.start("chat", "--server", server.url, "Hi")
    wait_for_bytes(process)
    server.wait_busy(1)
    interrupt(process)
    server.wait_busy(0)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130


def test_keys_and_a_server_that_goes(hs, serve, cycle):
    key = hs.ok("key", "create", "laptop").out.strip()
    server = serve("-m", cycle, "--ctx-size", 65536, "--drain-timeout", 0)
    result = hs.run("chat", "--server", server.url, "Hi")
    assert result.code == 5
    assert "HYPRSTREAM_API_KEY" in result.err
    process = hs.start("chat", "--server", server.url, "Hi", env={"HYPRSTREAM_API_KEY": key})
    wait_for_bytes(process)
    server.process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert b"stopping" in err or b"broke" in err
    assert server.wait() == 0
    assert hs.run("chat", "--server", server.url, "Hi").code == 20


def test_sessions_of_the_server(hs, serve, tiny):
    """Asking there twice is what asking here twice is."""
    model = tiny("history")
    args = ("--temp", 0, "--max-tokens", 8, "--json")
    here = [hs.ok("chat", "-m", model, "--session", "here", *args, text).json["answer"]
            for text in ("one", "two")]
    server = serve("-m", model)
    remote = ("chat", "--server", server.url, "--session", "there", *args)
    assert [hs.ok(*remote, text).json["answer"] for text in ("one", "two")] == here
    listed = {row["name"]: row["n_messages"] for row in hs.ok("session", "list", "--json").json}
    assert listed["there"] == listed["here"] == 4
    child = hs.terminal("chat", "--server", server.url, "--session", "there")
    child.expect("session 'there', 4 messages")
    child.sendline("/clear")
    child.expect("forgotten")
    child.sendline("/session")
    child.expect("session 'there', 0 messages")
    child.sendline("/exit")
    child.expect("\r\n")


def test_an_answer_in_a_session_that_is_left(hs, serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536)
    child = hs.terminal("chat", "--server", server.url, "--session", "s")
    child.expect("session 's' is new")
    child.expect_exact("> ")
    child.sendline("Hi")
    child.expect("hs ht")
    child.sendintr()
    child.expect(r"\[stopped\]")
    server.wait_busy(0)
    child.sendline("/session")
    child.expect("session 's', 2 messages")  # what was said until then stays
    child.sendline("/set max-tokens 2")
    child.sendline("again")
    child.expect(r"\[cut off after 2 tokens\]")
    child.sendline("/exit")
    child.expect("\r\n")
