"""The conversation on a terminal: editing, history, Ctrl-C, commands, several lines."""
import os
import re
import signal
import stat
import subprocess
import termios

import pexpect
import pytest

from conftest import BINARY, TIMEOUT

ANSWER = "Hello world, my friend"
PROMPT = "\x1b\\[\\?2004h> "  # bracketed paste on, and the prompt


class Chat:
    def __init__(self, hs, *args, **kwargs):
        self.hs = hs
        self.child = hs.terminal("chat", *args, **kwargs)
        self.child.expect(PROMPT)

    def type(self, text):
        self.child.send(text)

    def say(self, text, expect=ANSWER):
        """Send a message, wait for the answer and the next prompt; what was printed."""
        self.type(text + "\r")
        if expect:
            self.child.expect_exact(expect)
        self.child.expect(PROMPT)
        return self.child.before

    def command(self, text):
        self.type(text + "\r")
        self.child.expect(PROMPT)
        return self.child.before

    def leave(self, how="\x04"):
        self.type(how)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.signalstatus is None
        return self.child.exitstatus


def messages(hs, name):
    return [(m["role"], m["content"]) for m in
            hs.ok("session", "show", name, "--json").json["messages"]]


def test_a_conversation(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("one")
    chat.say("two")
    assert chat.leave() == 0
    assert messages(hs, "s") == [("user", "one"), ("assistant", ANSWER),
                                 ("user", "two"), ("assistant", ANSWER)]


@pytest.mark.parametrize("how", ["\x04", "/exit\r", "\x03\x03"])
def test_leaving(hs, say, how):
    chat = Chat(hs, "-m", say)
    if how == "\x03\x03":
        chat.type("\x03")
        chat.child.expect_exact("Ctrl-C again")
        chat.child.expect(PROMPT)
        how = "\x03"
    assert chat.leave(how) == 0


def test_ctrl_c_clears_the_line(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("never said")
    chat.child.expect_exact("never said")
    chat.type("\x03")
    chat.child.expect(PROMPT)
    chat.say("said")
    chat.type("\x03")  # not the second one in a row
    chat.child.expect(PROMPT)
    chat.say("again")
    chat.leave()
    assert [text for role, text in messages(hs, "s") if role == "user"] == ["said", "again"]


def test_ctrl_c_stops_the_answer(hs, cycle):
    chat = Chat(hs, "-m", cycle, "--ctx-size", 65536, "--session", "s")
    chat.type("Tell me a story without an end.\r")
    chat.child.expect(r"\w+ \w+")
    chat.type("\x03")
    chat.child.expect_exact("[stopped]")
    chat.child.expect(PROMPT)
    assert chat.child.isalive()
    chat.command("/set max-tokens 4")
    chat.say("Hello", expect=None)
    assert chat.leave() == 0
    roles = [role for role, _ in messages(hs, "s")]
    assert roles == ["user", "assistant"] * 2  # what came until then stays


def test_model_when_the_session_was_damaged(hs, tiny, say):
    other = tiny("say", "Other words")
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("one")
    (hs.home / "sessions" / "s" / "session.json").write_text('{"x')
    shown = chat.command(f"/model {other}")
    assert "session 's' cannot be opened again" in shown and "/save NAME" in shown
    chat.say("two", expect="Other words")
    assert "saved as session 'kept'" in chat.command("/save kept")
    assert chat.leave() == 0
    assert messages(hs, "kept") == [("user", "one"), ("assistant", ANSWER),
                                    ("user", "two"), ("assistant", "Other words")]


def test_regen(hs, tiny):
    chat = Chat(hs, "-m", tiny("history"), "--temp", 0, "-n", 6, "--session", "s")
    first = chat.say("one", expect=None)
    again = chat.command("/regen")
    assert first.splitlines()[-1] == again.splitlines()[-1]
    chat.leave()
    assert len(messages(hs, "s")) == 2


def test_backslash_and_block(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("one\\\r")
    chat.child.expect_exact("... ")
    chat.say("two")
    chat.type('"""\r')
    for line in ("begin", "", "  end\\"):
        chat.child.expect_exact("... ")
        chat.type(line + "\r")
    chat.child.expect_exact("... ")
    chat.say('"""')
    chat.leave()
    assert [text for role, text in messages(hs, "s") if role == "user"] == \
        ["one\ntwo", "begin\n\n  end\\"]


def test_pasted_lines_are_one_message(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("see: ")
    chat.type("\x1b[200~first\r\tsecond\r\rlast ä€😀\r\x1b[201~")
    chat.child.expect_exact("last")
    chat.say(" - and this")
    chat.leave()
    assert messages(hs, "s")[0][1] == "see: first\n\tsecond\n\nlast ä€😀 - and this"


def test_pasted_escape_codes_are_dropped(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("\x1b[200~a\x1b[31mb\x07c\x1b[201~")
    chat.child.expect_exact("a[31mbc")
    chat.say("")
    chat.leave()
    assert messages(hs, "s")[0][1] == "a[31mbc"


def test_editing_utf8(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    # a wide character, one of two bytes, one outside the BMP; left twice, delete one, type another
    chat.say("日ä😀z\x1b[D\x1b[D\x7fö")
    chat.leave()
    assert messages(hs, "s")[0][1] == "日ö😀z"


def test_history_across_runs(hs, say):
    chat = Chat(hs, "-m", say)
    chat.say("first message")
    chat.type("two\\\r")
    chat.child.expect_exact("... ")
    chat.say("lines")
    chat.leave()
    history = hs.home / "history"
    assert history.read_text() == "first message\ntwo\\nlines\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("\x1b[A\x1b[A")
    chat.child.expect_exact("first message")
    chat.say(" again")
    chat.type("\x1b[A\x1b[A")
    chat.child.expect_exact("lines")
    chat.say("")
    chat.leave()
    assert [text for role, text in messages(hs, "s") if role == "user"] == \
        ["first message again", "two\nlines"]


def test_history_search(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("a needle in hay")
    chat.say("only hay")
    chat.type("\x12needle")  # Ctrl-R
    chat.child.expect_exact("needle")
    chat.type("\x1b")
    chat.say("")
    chat.leave()
    assert messages(hs, "s")[4][1] == "a needle in hay"


def test_one_shot_leaves_no_history(hs, say):
    hs.ok("chat", "-m", say, "Hi")
    assert not (hs.home / "history").exists()


def test_resize(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("some text ")
    chat.child.expect_exact("text")
    chat.child.setwinsize(24, 30)
    chat.child.expect_exact("\r\x1b[J")  # drawn anew
    chat.type("and more than fits one line of the new size")
    chat.child.setwinsize(50, 132)
    chat.child.expect_exact("\r\x1b[J")
    chat.say("!")
    chat.leave()
    assert messages(hs, "s")[0][1] == "some text and more than fits one line of the new size!"


def test_typed_ahead(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type("one\rtwo\r")
    chat.child.expect_exact(ANSWER)
    chat.child.expect_exact(ANSWER)
    chat.child.expect(PROMPT)
    chat.leave()
    assert len(messages(hs, "s")) == 4


def test_keys_typed_during_an_answer(hs, cycle):
    """They are not shown in the middle of it, and wait for the next prompt."""
    chat = Chat(hs, "-m", cycle, "-n", 300, "--session", "s")
    chat.type("one\r")
    chat.child.expect(r"h\w h\w")
    chat.type("typed ahead\r")
    chat.child.expect_exact("[cut off after 300 tokens]")
    assert "typed" not in chat.child.before
    chat.child.expect_exact("typed ahead")
    chat.child.expect_exact("[cut off after 300 tokens]")
    chat.child.expect(PROMPT)
    assert chat.leave() == 0
    assert [text for role, text in messages(hs, "s") if role == "user"] == ["one", "typed ahead"]


def test_the_terminal_echoes_again(hs, say):
    chat = Chat(hs, "-m", say)
    chat.say("one")
    chat.type("\x04")
    chat.child.expect(pexpect.EOF)
    assert termios.tcgetattr(chat.child.child_fd)[3] & termios.ECHO


def test_end_of_input_ends_a_block(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.type('"""\r')
    chat.child.expect_exact("... ")
    chat.type("first\r")
    chat.child.expect_exact("... ")
    chat.type("\x04")
    chat.child.expect_exact(ANSWER)
    chat.child.expect(PROMPT)
    assert chat.leave() == 0
    assert messages(hs, "s")[0] == ("user", "first")


def test_overflow_of_an_open_session(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("one")
    chat.command("/set overflow shift")
    chat.say("two")
    assert chat.leave() == 0
    assert hs.ok("session", "show", "s", "--json").json["overflow"] == "shift"
    assert len(messages(hs, "s")) == 4


def test_completion(hs, say):
    hs.ok("model", "add", say, "--name", "alpha")
    hs.ok("chat", "-m", say, "--session", "beta", "Hi")
    chat = Chat(hs, "-m", say)
    # what was completed is seen by what it does: a line editor draws as little as it can
    assert "cells used" in chat.command("/st\t")
    chat.type("/s\t")
    chat.child.expect_exact("/system  /session  /save  /set  /stats")
    assert "session 'beta', 2 messages" in chat.command("es\tb\t")
    chat.command("/model al\t")
    assert "alpha" in chat.command("/model")
    chat.command("/set max\t3")
    assert re.search(r"max-tokens +3", chat.command("/set"))
    assert "unknown command '/zz'" in chat.command("/zz\t")
    chat.leave()


def test_commands(hs, say, cycle):
    hs.ok("model", "add", say, "--name", "talker")
    hs.ok("model", "add", cycle, "--name", "counter")
    chat = Chat(hs, "-m", "talker")
    assert "/regen" in chat.command("/help")
    assert "talker" in chat.command("/model")
    assert "no system message" in chat.command("/system")
    chat.command("/system be kind")
    assert "be kind" in chat.command("/system")
    chat.say("one")
    assert "answer " in chat.command("/stats")
    assert "did you mean '/stats'" in chat.command("/stast")
    assert "saved as session 'mine'" in chat.command("/save mine")
    chat.command("/set max-tokens 2")
    assert re.search(r"max-tokens +2", chat.command("/set"))
    chat.command("/model counter")
    chat.say("two", expect=" hs ht")
    chat.command("/clear")
    assert "'mine', 1 message\r" in chat.command("/session")
    assert "not a GGUF" in chat.command(f"/model {BINARY}")
    chat.say("three", expect=" hs ht")  # the model from before is still there
    chat.leave()
    assert messages(hs, "mine") == [("system", "be kind"), ("user", "three"),
                                    ("assistant", " hs ht")]


def test_the_screen_and_the_answer_are_apart(hs, say):
    """`hyprstream chat | tee`: a prompt on the terminal, only answers in the pipe."""
    out = hs.folder / "answers"
    command = f"{BINARY} chat -m {say} > {out}"
    child = pexpect.spawn("bash", ["-c", command], env=hs.env, timeout=TIMEOUT, encoding="utf-8")
    hs.terminals.append(child)
    child.expect(PROMPT)
    child.send("one\r")
    child.expect(PROMPT)
    child.send("\x04")
    child.expect(pexpect.EOF)
    assert out.read_text() == ANSWER + "\n"


def test_errors_in_a_file(hs, say):
    """With standard error in a file the prompt goes to the terminal itself."""
    log = hs.folder / "log"
    child = pexpect.spawn("bash", ["-c", f"{BINARY} chat -m {say} 2> {log}"], env=hs.env,
                          timeout=TIMEOUT, encoding="utf-8")
    hs.terminals.append(child)
    child.expect(PROMPT)
    child.send("one\r")
    child.expect_exact(ANSWER)
    child.expect(PROMPT)
    child.send("\x04")
    child.expect(pexpect.EOF)
    assert "\x1b" not in log.read_text()


def test_suspend_and_go_on(hs, say):
    child = pexpect.spawn("bash", ["--norc", "-i"], env={**hs.env, "PS1": "sh$ ", "HISTFILE": ""},
                          timeout=TIMEOUT, encoding="utf-8")
    hs.terminals.append(child)
    child.expect_exact("sh$ ")
    child.send(f"{BINARY} chat -m {say} --session s\r")
    child.expect(PROMPT)
    child.send("half a")
    child.expect_exact("half a")
    child.send("\x1a")
    child.expect_exact("Stopped")
    child.expect_exact("sh$ ")
    child.send("stty -a | grep -c -- '-icanon'\r")
    child.expect(r"\r0\r\n")  # the shell has its terminal back
    child.send("fg\r")
    child.expect_exact("half a")
    child.send(" message\r")
    child.expect_exact(ANSWER)
    child.expect(PROMPT)
    child.send("\x04")
    child.expect_exact("sh$ ")
    child.send("exit\r")
    child.expect(pexpect.EOF)
    assert messages(hs, "s")[0][1] == "half a message"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_at_the_prompt(hs, say, number):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("one")
    chat.child.kill(number)
    chat.child.expect(pexpect.EOF)
    chat.child.close()
    assert chat.child.exitstatus == 128 + number
    assert len(messages(hs, "s")) == 2


def test_killed_sessions_keep_their_turns(hs, say):
    chat = Chat(hs, "-m", say, "--session", "s")
    chat.say("one")
    chat.child.kill(signal.SIGKILL)
    chat.child.expect(pexpect.EOF)
    assert len(messages(hs, "s")) == 2
    assert hs.ok("chat", "-m", say, "--session", "s", "two").out == ANSWER + "\n"


def test_questions_before_removal(hs, say):
    models = hs.home / "models"
    models.mkdir(parents=True)
    path = models / "mine.gguf"
    path.write_bytes(say.read_bytes())
    hs.ok("model", "add", path)
    for answer, gone in (("n", False), ("", False), ("y", True)):
        child = hs.terminal("model", "rm", "mine")
        child.expect_exact("[y/N] ")
        child.send(answer + "\r")
        child.expect(pexpect.EOF)
        assert path.exists() != gone


def test_a_dumb_terminal(hs, say):
    child = hs.terminal("chat", "-m", say, env={"TERM": "dumb"})
    child.expect("> ")
    child.send("one\r")
    child.expect_exact(ANSWER)
    child.expect("> ")
    child.send("\x04")
    child.expect(pexpect.EOF)
    assert "\x1b" not in child.before


def test_latin_locale(hs, say):
    """Text is UTF-8 whatever the locale says."""
    chat = Chat(hs, "-m", say, "--session", "s", env={"LANG": "C", "LC_ALL": "C"})
    chat.say("grüße")
    chat.leave()
    assert messages(hs, "s")[0][1] == "grüße"
