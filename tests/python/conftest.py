"""What the tests of the real binary share.

HYPRSTREAM (or HS_BIN) names the binary, build/bin/hyprstream otherwise; HS_DEMO_MODEL and
HS_TINY_GGUF_TOOL stand in for the demo model in deps/models and the tool beside the other tests.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import openai
import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("HYPRSTREAM") or os.environ.get("HS_BIN")
              or ROOT / "build" / "bin" / "hyprstream").absolute()
TOOL = Path(os.environ.get("HS_TINY_GGUF_TOOL") or BINARY.parents[1] / "tests" / "tiny_gguf_tool")
PINS = dict(re.findall(r"^(\w+)=(\S+)$", (ROOT / "pins.env").read_text(), re.M))
DEPS = Path(os.environ.get("HS_DEPS_DIR") or ROOT / "deps")
DEMO = Path(os.environ.get("HS_DEMO_MODEL") or DEPS / "models" / PINS["DEMO_FILE"])
FLIGHT_SERVER = BINARY.parents[1] / "tests" / "flight_server"
# for models whose own template cannot show tools
SHOWS_TOOLS = ("--chat-template-file", ROOT / "tests" / "data" / "templates" / "tools.jinja")
TIMEOUT = 120  # seconds; generous, as the machine may be busy


class Result:
    """How a run ended."""

    def __init__(self, process, out, err):
        self.code = process.returncode
        self.out_bytes = out
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    @property
    def json(self):
        return json.loads(self.out)


class Hyprstream:
    """Runs the binary with a home of its own; everything else of the environment is bare."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "state"
        self.user_home = folder / "user"
        self.user_home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.user_home),
            "HYPRSTREAM_HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            # two threads that wait for each other make no way beside other programs
            "HYPRSTREAM_THREADS": "1",
            "TMPDIR": str(folder),
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.terminals = []

    def start(self, *args, env=None, prefix=(), **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([*prefix, str(BINARY), *map(str, args)], cwd=self.folder,
                                env={**self.env, **(env or {})}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **kwargs)

    def run(self, *args, input=None, env=None, prefix=()):
        process = self.start(*args, env=env, prefix=prefix,
                             stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL)
        if isinstance(input, str):
            input = input.encode()
        try:
            out, err = process.communicate(input, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Result(process, out, err)

    def ok(self, *args, **kwargs):
        result = self.run(*args, **kwargs)
        assert result.code == 0, result.err
        return result

    def terminal(self, *args, env=None, columns=80):
        child = pexpect.spawn(str(BINARY), [str(arg) for arg in args], cwd=str(self.folder),
                              env={**self.env, **(env or {})}, dimensions=(24, columns),
                              timeout=TIMEOUT, encoding="utf-8")
        self.terminals.append(child)
        return child

    def close(self):
        for child in self.terminals:
            child.close(force=True)
        # HYPRSTREAM_HOME holds all state: nothing was left anywhere else
        assert list(self.user_home.iterdir()) == []


@pytest.fixture
def hs(tmp_path):
    if not BINARY.exists():
        pytest.skip(f"{BINARY} is not built")
    runner = Hyprstream(tmp_path)
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not built")
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def tiny(tiny_folder):
    """tiny(kind, text): the path of a tiny model, made once."""
    def make(kind, *text):
        path = tiny_folder / (re.sub(r"\W", "_", "-".join((kind, *text))) + ".gguf")
        if not path.exists():
            subprocess.run([TOOL, kind, path, *text], check=True)
        return path
    return make


@pytest.fixture
def say(tiny):
    """A model that answers everything with one sentence."""
    return tiny("say", "Hello world, my friend")


@pytest.fixture
def caller(tiny):
    """A model that begins a call as the template of SHOWS_TOOLS writes it; the grammar of a tool
    that leaves no choice does the rest."""
    return tiny("say", "<call>")


@pytest.fixture
def cycle(tiny):
    """A model that never stops."""
    return tiny("cycle")


@pytest.fixture
def demo():
    if not DEMO.exists():
        pytest.skip(f"{DEMO} is not there; 'make deps' fetches it")
    return DEMO


class Server:
    """A running server on a free port of this machine."""

    def __init__(self, hs, *args):
        self.process = hs.start("serve", "--port", 0, *args)
        self.errors = []
        self.listening = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.listening.wait(TIMEOUT) or self.process.poll() is not None:
            self.process.kill()
            raise AssertionError("".join(self.errors))
        line = next(line for line in self.errors if line.startswith("listening on "))
        self.port = int(re.search(r"https?://[\d.]+:(\d+)", line)[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0,
                                    timeout=TIMEOUT)

    def _read(self):
        for line in self.process.stderr:
            self.errors.append(line.decode())
            if line.startswith(b"listening on "):
                self.listening.set()
        self.listening.set()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=TIMEOUT) as reply:
            return json.load(reply)

    def post(self, path, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return json.load(reply)

    def chat(self, **kwargs):
        kwargs.setdefault("messages", [{"role": "user", "content": "Hi"}])
        return self.client.chat.completions.create(model=kwargs.pop("model", ""), **kwargs)

    def n_busy(self):
        return sum(slot["is_processing"] for slot in self.get("/slots"))

    def wait_busy(self, n):
        end = time.monotonic() + TIMEOUT
        while self.n_busy() != n:
            assert time.monotonic() < end, f"{self.n_busy()} slots are busy, not {n}"
            time.sleep(0.01)

    def wait_until(self, holds):
        end = time.monotonic() + TIMEOUT
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """The exit status of a server that was told to stop."""
        self.client.close()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode


@pytest.fixture
def serve(hs):
    servers = []

    def start(*args):
        servers.append(Server(hs, *args))
        return servers[-1]
    yield start
    for server in servers:
        if server.process.poll() is None:
            assert server.stop() == 0


class FlightServer:
    """Flight SQL without a model."""

    def __init__(self, *args):
        self.process = subprocess.Popen([FLIGHT_SERVER, *map(str, args)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.uri = f"grpc://127.0.0.1:{self.port}"

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(TIMEOUT) == 0
        self.process.stdout.close()


@pytest.fixture
def serve_flight():
    if not FLIGHT_SERVER.exists():
        pytest.skip("built without Flight SQL")
    servers = []

    def start(*args):
        servers.append(FlightServer(*args))
        return servers[-1]
    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def certificate(tmp_path):
    need("openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def need(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


def wait_for_bytes(process, n=1):
    """The first bytes of a running process's output."""
    return os.read(process.stdout.fileno(), n)


def interrupt(process):
    process.send_signal(signal.SIGINT)
