"""`hyprstream sql` on a terminal: statements of several lines, history, Tab, Ctrl-C."""
import pexpect
import pytest

from conftest import BINARY, TIMEOUT

if not (BINARY.parents[1] / "tests" / "flight_server").exists():
    pytest.skip("built without SQL", allow_module_level=True)

PROMPT = "\x1b\\[\\?2004hsql> "  # bracketed paste on, and the prompt
MORE = "\x1b\\[\\?2004h\\.\\.\\. "
LONG = "SELECT count(*) FROM range(100000000000) a, range(10) b;"


class Shell:
    def __init__(self, hs, *args):
        self.child = hs.terminal("sql", "--format", "csv", *args)
        self.child.expect(PROMPT)

    def send(self, text, then=PROMPT):
        """Send a line; what was printed before the next prompt."""
        self.child.send(text + "\r")
        self.child.expect(then)
        return self.child.before

    def leave(self, how="\x04"):
        self.child.send(how)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.signalstatus is None
        return self.child.exitstatus


@pytest.fixture(params=["here", "server"])
def where(request, serve, say):
    if request.param == "here":
        return ("--sql-file", ":memory:")
    return ("--server", serve("-m", say).url)


def test_a_conversation(hs, where):
    shell = Shell(hs, *where)
    shell.send("SELECT 40 +", MORE)
    assert "n\r\n42\r\n" in shell.send("2 AS n;").replace("\r\r", "\r")
    assert "2 rows" in shell.send("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2);")
    assert "selec" in shell.send("selec;")
    shell.send("CREATE TEMP TABLE u AS SELECT 5 AS five; BEGIN; DROP TABLE t;")
    assert "five\r\n5\r\n" in shell.send("ROLLBACK; FROM u;").replace("\r\r", "\r")
    shell.send("SELECT 'left", MORE)
    shell.child.send("\x03")  # clears what was typed
    shell.child.expect(PROMPT)
    assert "column_name" in shell.send("\\d t")
    shell.child.send("SELECT co\x15FROM hyprstream.mode\t")
    shell.child.expect_exact("models")
    assert "architecture" in shell.send(";")
    assert shell.leave() == 0
    shell = Shell(hs, *where)  # what was typed is remembered with all its lines
    shell.child.send("\x12SELECT 40")
    shell.child.expect_exact("2 AS n;")
    shell.child.send("\x03")
    shell.child.expect(PROMPT)
    assert shell.leave(".quit\r") == 0


def test_ctrl_c_stops_the_statement_alone(hs, where):
    shell = Shell(hs, *where)
    shell.child.send(LONG + "\r")
    shell.child.expect_exact("\x1b[?2004l")
    for _ in range(TIMEOUT):  # nothing tells when it runs, and Ctrl-C before that is for nothing
        shell.child.send("\x03")
        if shell.child.expect_exact(["[stopped]", pexpect.TIMEOUT], timeout=1) == 0:
            break
    shell.child.expect(PROMPT)
    assert "n\r\n7\r\n" in shell.send("SELECT 7 AS n;").replace("\r\r", "\r")
    assert shell.leave() == 0
