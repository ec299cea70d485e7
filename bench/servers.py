"""Two servers beside each other, asked in turns: what bench/server and bench/lora share."""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from checkout import ROOT, Failure

N_CTX, N_SEQUENCES = 16384, 64


def build_tools(build):
    made = subprocess.run(
        [os.path.join(ROOT, "scripts", "bench-tools"), os.path.relpath(build, ROOT), "server"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise Failure(
            "llama-server did not build; with an installed llama.cpp name its folder: --tools"
        )
    return made.stdout.strip().splitlines()[-1]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A running server; a context manager, so that it ends whatever happens."""

    def __init__(self, name, command, cwd, env, port):
        self.name, self.port = name, port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=cwd, env=env
        )

    def __enter__(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.request("GET", "/health")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        self.__exit__()
        self.log.seek(0)
        raise Failure(f"{self.name} did not start:\n" + self.log.read().decode()[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def peak_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


class Rows:
    """Rows of figures of two contestants, and their ratios."""

    def __init__(self):
        self.rows, self.seed = [], 0

    def progress(self, text):
        if sys.stderr.isatty():
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)

    def pairs(self, servers, name, rounds, measure):
        """[(ours, theirs), ...]; both get the same prompts, no two pairs do."""
        pairs = []
        for i in range(rounds):
            self.progress(f"{name}: {i + 1} of {rounds}")
            self.seed += 1
            order = servers if i % 2 == 0 else servers[::-1]
            figures = {server: measure(server, self.seed) for server in order}
            pairs.append((figures[servers[0]], figures[servers[1]]))
        return pairs

    def add(self, name, unit, pairs, goal=None, at_least=False):
        ratio = statistics.median(a / b if b else 1.0 for a, b in pairs)
        met = None
        if goal is not None:
            met = ratio >= goal if at_least else ratio <= goal
        self.rows.append({
            "name": name, "unit": unit, "ratio": ratio, "goal": goal, "at_least": at_least,
            "ours": statistics.median(a for a, _ in pairs),
            "theirs": statistics.median(b for _, b in pairs), "met": met,
        })  # fmt: skip


class Comparison(Rows):
    """Ours beside llama-server. `arguments` has build, tools and threads."""

    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments
        self.tools = arguments.tools or build_tools(arguments.build)
        libraries = os.path.join(os.path.dirname(self.tools), "bin")
        self.tools_cwd = libraries if os.path.isdir(libraries) else self.tools
        self.driver_cpu = 0.0

    # ---- the two servers ----

    def ours(self, model, threads, env, more=()):
        port = free_port()
        command = [
            os.path.join(self.arguments.build, "bin", "hyprstream"), "serve",
            "--model", model, "--ctx-size", str(N_CTX), "--max-sequences", str(N_SEQUENCES),
            "--threads", str(threads), "--flash-attn", "on", "--port", str(port), *more,
        ]  # fmt: skip
        return Server("hyprstream", command, None, env, port)

    def theirs(self, model, threads, env, more=()):
        port = free_port()
        command = [
            os.path.join(self.tools, "llama-server"),
            "-m", model, "-c", str(N_CTX), "-np", str(N_SEQUENCES), "-kvu",
            "-t", str(threads), "-tb", str(threads), "-fa", "on", "--no-webui", "--log-disable",
            "--host", "127.0.0.1", "--port", str(port), *more,
        ]  # fmt: skip
        return Server("llama-server", command, self.tools_cwd, env, port)

    def load(self, server, *options):
        command = [os.path.join(self.arguments.build, "bench", "bench-load")]
        command += ["-p", str(server.port)] + [str(option) for option in options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"{server.name}, {' '.join(command[1:])}: {done.stderr.strip()}")
        figures = json.loads(done.stdout)
        self.driver_cpu = max(self.driver_cpu, figures["driver_cpu_share"])
        return figures


def print_table(rows, peer="llama-server"):
    print(f"| row | hyprstream | {peer} | ratio | goal |\n|---|---|---|---|---|")
    for row in rows:
        form, goal = ".1f" if row["ours"] >= 10 else ".3f", ""
        if row["goal"] is not None:
            sign = ">=" if row["at_least"] else "<" if row.get("is_absolute") else "<="
            goal = f"{sign} {row['goal']}: " + ("met" if row["met"] else "missed")
        print(
            f"| {row['name']} | {row['ours']:{form}} {row['unit']} | {row['theirs']:{form}} "
            f"| {row['ratio']:.3f} | {goal} |"
        )
