"""What the line editor shows, as a real terminal emulator (tmux) sees it: wide characters, marks
and joined emoji, rows that wrap, other sizes."""
import subprocess
import time

import pytest

from conftest import BINARY, TIMEOUT, need
from test_interactive import messages

FAMILY = "👩\u200d👩\u200d👧"  # five code points; tmux draws them as one, in two columns
COLUMNS, ROWS = 20, 10


class Screen:
    def __init__(self, hs, *args):
        self.socket = hs.folder / "tmux"
        self.env = {**hs.env, "TERM": "xterm-256color"}
        self.env.pop("TMPDIR")
        settings = hs.folder / "tmux.conf"
        settings.write_text("set -g status off\nset -g history-limit 0\n")
        self.tmux("-u", "-f", settings, "new-session", "-d", "-x", COLUMNS, "-y", ROWS, BINARY,
                  "chat", *args)
        self.wait(lambda rows, _: rows[-1] == ">")
        self.type("C-l", "")
        self.expect([">"], (2, 0))

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *map(str, args)], env=self.env,
                              timeout=TIMEOUT, check=True, capture_output=True, text=True).stdout

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], env=self.env, timeout=TIMEOUT,
                       capture_output=True, check=False)

    def seen(self):
        rows = [row.rstrip() for row in self.tmux("capture-pane", "-p").rstrip("\n").split("\n")]
        cursor = self.tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split()
        return rows, tuple(map(int, cursor))

    def wait(self, is_it):
        end = time.monotonic() + TIMEOUT
        while not is_it(*(seen := self.seen())):
            assert time.monotonic() < end, seen
            time.sleep(0.02)

    def type(self, *keys):
        """Names of keys; a text begins with '='."""
        for key in filter(None, keys):
            self.tmux("send-keys", *(("-l", key[1:]) if key[0] == "=" else (key,)))

    def expect(self, rows, cursor):
        self.wait(lambda seen, at: (seen, at) == (rows, cursor))


@pytest.fixture
def screen(hs, say):
    need("tmux")
    screen = Screen(hs, "-m", say, "--session", "s")
    yield screen
    screen.close()


def test_wide_characters_wrap(screen):
    screen.type("=日本語日本語日本語")
    screen.expect(["> 日本語日本語日本語"], (0, 1))  # a full row: the next one comes below
    screen.type("=日")
    screen.expect(["> 日本語日本語日本語", "日"], (2, 1))
    screen.type("Home", "=x")  # an odd column: the last one does not fit any more
    screen.expect(["> x日本語日本語日本", "語日"], (3, 0))
    screen.type("BSpace")
    screen.expect(["> 日本語日本語日本語", "日"], (2, 0))
    screen.type("DC", "DC")
    screen.expect(["> 語日本語日本語日"], (2, 0))
    screen.type("End", "Left", "BSpace")
    screen.expect(["> 語日本語日本日"], (14, 0))


def test_marks(hs, screen):
    screen.type("=ae\u0301x", "Left", "Left")  # a letter and its mark are one step
    screen.expect(["> ae\u0301x"], (3, 0))
    screen.type("=Z", "End", "BSpace", "=y")
    screen.expect(["> aZe\u0301y"], (6, 0))
    screen.type("Left", "BSpace")  # and go together
    screen.expect(["> aZy"], (4, 0))
    screen.type("Enter")
    screen.wait(lambda rows, _: rows[-1] == ">")
    assert messages(hs, "s")[0] == ("user", "aZy")


def test_joined_emoji(hs, screen):
    screen.type(f"=a{FAMILY}b")
    screen.expect([f"> a{FAMILY}    b"], (10, 0))  # room for terminals that do not join them
    screen.type("Left", "Left", "=c")
    screen.expect([f"> ac{FAMILY}    b"], (4, 0))
    screen.type("End", "=12345678")
    screen.expect([f"> ac{FAMILY}    b12345678"], (19, 0))
    screen.type("Home", "=123456789")  # stays whole where the row ends
    screen.expect(["> 123456789ac" + FAMILY + "    b", "12345678"], (11, 0))
    screen.type("=0")
    screen.expect(["> 1234567890ac" + FAMILY, "b12345678"], (12, 0))
    screen.type("=0")
    screen.expect(["> 12345678900ac", FAMILY + "    b12345678"], (13, 0))
    screen.type("Right", "Right", "DC")
    screen.expect(["> 12345678900acb1234", "5678"], (15, 0))
    screen.type("=❤️👍🏽", "Enter")
    screen.wait(lambda rows, _: rows[-1] == ">")
    assert messages(hs, "s")[0] == ("user", "12345678900ac❤️👍🏽b12345678")


def test_more_rows_than_the_terminal_has(screen):
    text = "".join(c * COLUMNS for c in "abcdefghijkl")[2:] + "end"
    rows = ["> " + "a" * 18] + [c * COLUMNS for c in "bcdefghijkl"] + ["end"]
    screen.type("=" + text)
    screen.expect(rows[-ROWS:], (3, ROWS - 1))
    screen.type("Home")
    screen.expect(rows[:ROWS], (2, 0))
    screen.type("=日")
    screen.wait(lambda seen, at: seen[0] == "> 日" + "a" * 16 and at == (4, 0))
    screen.type("C-k")
    screen.expect(["> 日"], (4, 0))


def test_history_of_several_rows(screen):
    screen.type("=one two three four five", "Enter")
    screen.wait(lambda rows, _: rows[-1] == ">")
    screen.type("C-l", "=short", "Up")
    screen.expect(["> one two three four", " five"], (5, 1))
    screen.type("Down")
    screen.wait(lambda rows, _: len(rows) == 1)
    screen.type("C-r", "=three")
    screen.expect(["> one two three four", " five", "bck:three"], (10, 0))


@pytest.mark.parametrize("columns, rows, cursor", [
    (11, ["> some word", "s that fill", " more than", "one row"], (7, 3)),
    (60, ["> some words that fill more than one row"], (40, 0))])
def test_another_size(screen, columns, rows, cursor):
    text = "some words that fill more than one row"
    screen.type("=" + text)
    screen.expect(["> " + text[:18], text[18:]], (0, 2))
    screen.tmux("resize-window", "-x", columns, "-y", ROWS)
    screen.expect(rows, cursor)
    screen.type("=!")
    screen.expect(rows[:-1] + [rows[-1] + "!"], (cursor[0] + 1, cursor[1]))
