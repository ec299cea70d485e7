#!/usr/bin/env python3
"""soak_server.py [--seconds N] [--connections N] [--server PROGRAM] [--tool PROGRAM] [--seed N]

A server under many clients at once: streams and whole answers of every API, cancels, disconnects,
slow readers, bad requests, queues that overflow. The model is tiny and its answers are known: word
k is followed by word k + 1, so every text is checked to the letter. In the end nothing may still
run, memory must not have grown, and the server must have said nothing of a fault. Works against a
program under a sanitizer as well.
"""
import argparse
import asyncio
import json
import os
import random
import re
import signal
import struct
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_WORD, N_WORDS = 384, 256  # tests/support/tiny_gguf.h
# What follows token t that is no word, by tiny_gguf_next_default: word (7 t + 3) mod 256. The
# template of a chat ends with a line feed, token 13.
CHAT_WORD = (7 * 13 + 3) % N_WORDS
TIMEOUT = 120


class Fault(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Fault(" ".join(str(part) for part in what))


class Client:
    """One request on a connection of its own."""

    def __init__(self, soak, path, body=None, raw=None):
        self.soak, self.path = soak, path
        data = raw if raw is not None else json.dumps(body).encode()
        method = "GET" if body is None and raw is None else "POST"
        self.request = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
                        f"Content-Length: {len(data) if method == 'POST' else 0}\r\n"
                        "Connection: close\r\n\r\n").encode() + (data if method == "POST" else b"")

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.soak.port)
        return self

    async def __aexit__(self, *ignored):
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    def reset(self):
        """Go away without a word: the server gets RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                        struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(self, n=None):
        self.writer.write(self.request[:n])
        await self.writer.drain()

    async def head(self):
        line = await asyncio.wait_for(self.reader.readline(), TIMEOUT)
        check(line.startswith(b"HTTP/1.1 "), self.path, "answered", line)
        self.status = int(line.split()[1])
        self.headers = {}
        while (line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        return self.status

    async def chunks(self):
        """The body as it comes."""
        if "content-length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["content-length"]))
            return
        while True:
            line = await asyncio.wait_for(self.reader.readline(), TIMEOUT)
            check(line.endswith(b"\r\n"), self.path, "was cut off")
            size = int(line, 16)
            data = await self.reader.readexactly(size + 2)
            if size == 0:
                return
            yield data[:-2]

    async def body(self):
        return b"".join([chunk async for chunk in self.chunks()])

    async def lines(self):
        rest = b""
        async for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line
        check(rest == b"", self.path, "ends in the middle of a line:", rest)


class Soak:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.counts = Counter()
        self.rss = []

    # ---- what must come ----

    def text_after(self, k, n):
        return "".join(self.words[(k + 1 + i) % N_WORDS] for i in range(n))

    def question(self):
        k = self.random.randrange(N_WORDS)
        n = self.random.choice((1, 2, 5, 20, 60))
        return k, n, self.text_after(k, n)

    async def ask(self, client):
        """False: the queue was full, which is an answer, too."""
        await client.send()
        status = await client.head()
        if status in (429, 503):
            check(status == 503 or "retry-after" in client.headers, "429 without Retry-After")
            await client.body()
            self.counts["refused, queue full"] += 1
            return False
        check(status == 200, client.path, "answered", status)
        return True

    # ---- actions ----

    async def stream(self, slow=False):
        k, n, expected = self.question()
        body = {"prompt": self.words[k], "max_tokens": n, "stream": True,
                "stream_options": {"include_usage": True}}
        async with Client(self, "/v1/completions", body) as client:
            if not await self.ask(client):
                return
            text, last = "", None
            async for line in client.lines():
                if line in (b"", b"data: [DONE]"):
                    last = line or last
                    continue
                check(line.startswith(b"data: {"), "not an event:", line)
                event = json.loads(line[6:])
                check("error" not in event, event)
                text += "".join(choice["text"] for choice in event["choices"])
                check(expected.startswith(text), "after", self.words[k], "came", text)
                if slow:
                    await asyncio.sleep(self.random.random() / 20)
            check(text == expected, "after", self.words[k], "came", text)
            check(last == b"data: [DONE]", "no end of the stream")

    async def slow_stream(self):
        await self.stream(slow=True)

    async def whole(self):
        k, n, expected = self.question()
        body = {"prompt": [self.words[k], self.words[k - 1]], "n": 2, "max_tokens": n}
        async with Client(self, "/v1/completions", body) as client:
            if await self.ask(client):
                answer = json.loads(await client.body())
                texts = [choice["text"] for choice in answer["choices"]]
                other = self.text_after((k - 1) % N_WORDS, n)
                check(texts == [expected, expected, other, other], texts)
                check(answer["usage"]["completion_tokens"] == 4 * n, answer["usage"])

    async def chat(self):
        """A chat's last word decides nothing here: what follows the template's prompt does."""
        n = self.random.choice((1, 3, 17))
        body = {"messages": [{"role": "user", "content": "x" * self.random.randrange(1, 400)}],
                "max_tokens": n, "stream": self.random.random() < 0.5}
        path, read = self.random.choice((
            ("/v1/chat/completions", lambda event: "".join(
                (choice.get("delta") or choice.get("message"))["content"] or ""
                for choice in event["choices"]
                if "content" in (choice.get("delta") or choice.get("message") or {}))),
            ("/v1/messages", lambda event: event.get("delta", {}).get("text", "") + "".join(
                block["text"] for block in event.get("content", []))),
            ("/api/chat", lambda event: event["message"]["content"])))
        if path == "/api/chat":
            body["options"] = {"num_predict": n}
        async with Client(self, path, body) as client:
            if not await self.ask(client):
                return
            text = ""
            async for line in client.lines_or_body():
                text += read(line)
            check(text == self.chat_text(n), path, "said", text)

    def chat_text(self, n):
        return "".join(self.words[(CHAT_WORD + i) % N_WORDS] for i in range(n))

    async def cancel(self):
        """Leave in the middle of an endless answer."""
        k = self.random.randrange(N_WORDS)
        body = {"prompt": self.words[k], "max_tokens": 3000, "stream": True}
        async with Client(self, "/v1/completions", body) as client:
            if await self.ask(client):
                n = self.random.randrange(1, 20)
                async for _ in client.chunks():
                    n -= 1
                    if n == 0:
                        break
                if self.random.random() < 0.5:
                    client.reset()

    async def leave_at_once(self):
        """Gone before any answer, maybe before the request was whole."""
        body = {"prompt": "x " * self.random.randrange(1, 300), "max_tokens": 500}
        async with Client(self, "/v1/completions", body) as client:
            await client.send(self.random.choice((None, 10, len(client.request) - 5)))
            await asyncio.sleep(self.random.random() / 50)
            client.reset()

    async def bad(self):
        path, raw, status = self.random.choice((
            ("/v1/completions", b"{", 400),
            ("/v1/completions", b'{"prompt": 1}', 400),
            ("/v1/completions", b'{"prompt": "a", "temperature": "hot"}', 400),
            ("/v1/completions", b'{"prompt": "\xff"}', 400),
            ("/v1/chat/completions", b'{"messages": []}', 400),
            ("/v1/chat/completions", b'{"messages": [{"role": "x", "content": "y"}]}', 400),
            ("/v1/completions", b'{"prompt": "a", "model": "nope"}', 404),
            ("/v1/completions", b'{"prompt": "' + b"word " * 20000 + b'"}', 400),
            ("/nowhere", b"{}", 404)))
        async with Client(self, path, raw=raw) as client:
            await client.send()
            got = await client.head()
            # a full queue is told before a prompt is too long
            check(got == status or (got == 429 and len(raw) > 1000), path, raw[:80], "gave", got,
                  "instead of", status)
            check("error" in json.loads(await client.body()), "no error object")

    async def look(self):
        path = self.random.choice(("/slots", "/metrics", "/v1/models", "/health", "/props"))
        async with Client(self, path) as client:
            await client.send()
            check(await client.head() == 200, path)
            await client.body()

    ACTIONS = ((stream, 8), (slow_stream, 2), (whole, 5), (chat, 5), (cancel, 4),
               (leave_at_once, 3), (bad, 3), (look, 1))

    # ---- the run ----

    async def worker(self):
        actions, weights = zip(*self.ACTIONS)
        while time.monotonic() < self.end:
            action = self.random.choices(actions, weights)[0]
            try:
                await action(self)
            except (OSError, asyncio.IncompleteReadError) as error:
                raise Fault(f"{action.__name__}: the connection broke: {error!r}") from error
            self.counts[action.__name__] += 1

    def resident(self):
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    async def watch(self):
        while time.monotonic() < self.end:
            self.rss.append(self.resident())
            await asyncio.sleep(max(0.2, self.options.seconds / 200))

    async def get(self, path, body=None):
        async with Client(self, path, body) as client:
            await client.send()
            check(await client.head() == 200, path)
            return json.loads(await client.body())

    async def read_words(self):
        self.words = []
        for i in range(N_WORDS):
            word = (await self.get("/detokenize", {"tokens": [FIRST_WORD + i]}))["content"]
            self.words.append(word)
        check(len(set(self.words)) == N_WORDS, "the words differ")

    async def settle(self):
        end = time.monotonic() + TIMEOUT
        while any(slot["is_processing"] for slot in await self.get("/slots")):
            check(time.monotonic() < end, "requests still run, without a client")
            await asyncio.sleep(0.05)

    async def run(self):
        await self.read_words()
        self.end = time.monotonic() + self.options.seconds
        tasks = [asyncio.create_task(self.worker()) for _ in range(self.options.connections)]
        tasks.append(asyncio.create_task(self.watch()))
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for task in done:
            task.result()
        await self.settle()

    def start(self, folder):
        model = Path(folder) / "cycle.gguf"
        subprocess.run([self.options.tool, "cycle", model], check=True)
        self.log = open(Path(folder) / "log", "w+b")
        self.server = subprocess.Popen(
            [self.options.server, "serve", "--model", model, "--port", "0", "--threads", "1",
             "--ctx-size", "16384", "--park-budget", "8M"],
            env={**os.environ, "HYPRSTREAM_HOME": str(Path(folder) / "home")}, stderr=self.log)
        end = time.monotonic() + TIMEOUT
        while not (match := re.search(r"listening on http://127.0.0.1:(\d+)", self.said())):
            check(self.server.poll() is None and time.monotonic() < end, self.said())
            time.sleep(0.05)
        self.port = int(match[1])

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        try:
            code = self.server.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.server.kill()
            raise Fault("the server does not stop") from None
        said = self.said()
        check(code == 0, "the server ended with", code, said[-4000:])
        check(not re.search(r"Sanitizer|runtime error|panic|assert", said), said[-8000:])

    def check_memory(self):
        """Once it is warm, memory stays where it is."""
        quarter = len(self.rss) // 4
        if quarter < 4:
            return "too short to tell"
        warm, last = max(self.rss[quarter:2 * quarter]), max(self.rss[-quarter:])
        text = f"{warm:.1f} MiB in the second quarter, {last:.1f} MiB in the last"
        check(last <= warm * 1.05 + self.options.slack, "memory grew:", text)
        return text


async def lines_or_body(client):
    """The JSON objects of a stream of events or of lines, or the one of a whole answer."""
    kind = client.headers["content-type"]
    if kind.startswith("application/json"):
        yield json.loads(await client.body())
        return
    async for line in client.lines():
        if line.startswith(b"data: {"):
            line = line[6:]
        if line.startswith(b"{"):
            yield json.loads(line)


Client.lines_or_body = lines_or_body


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    seconds = float(os.environ.get("HS_SOAK_SECONDS", 300))
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--server", default=ROOT / "build/bin/hyprstream")
    parser.add_argument("--tool", default=ROOT / "build/tests/tiny_gguf_tool")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--slack", type=float, default=4, help="MiB that memory may grow")
    options = parser.parse_args()
    soak = Soak(options)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            soak.start(folder)
            asyncio.run(soak.run())
            soak.stop()
            memory = soak.check_memory()
        except Fault as fault:
            print(f"FAILED: {fault}")
            return 1
        finally:
            if hasattr(soak, "server") and soak.server.poll() is None:
                soak.server.kill()
                soak.server.wait()
    for name, count in sorted(soak.counts.items()):
        print(f"{count:8} {name}")
    print(f"memory: {memory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
