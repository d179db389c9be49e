# SPDX-License-Identifier: Apache-2.0
"""A service under test, and a client of its HTTP and WebSocket interface, with the standard library alone."""
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def wait_for(what, seconds=30.0, pause=0.05):
    """Calls until the answer is true; the last answer. The limit is for a broken service, not for a slow machine."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(pause)


def fake_programs(folder):
    """A folder of programs in which distil is a script."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "distil"
    text = (HERE / "fake_distil.py").read_text().replace("#!/usr/bin/env python3", "#!" + sys.executable, 1)
    program.write_text(text)
    program.chmod(0o755)
    return folder


class Service:
    """One process of serve."""

    def __init__(self, program, folder, programs, roots, *more, env=None):
        self.folder = pathlib.Path(folder)
        self.runs = self.folder / "runs"
        command = [str(program), "--port=0", f"--runs={self.runs}", f"--bin={programs}"]
        command += [f"--root={root}" for root in roots] + list(more)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise AssertionError("serve did not start: " + self.process.stderr.read())
        self.port = int(self.url.split(":")[2].split("/")[0])
        self.token = (self.runs / ".service" / "token").read_text().strip()

    def ask(self, method, path, body=None, token=None, headers=None, raw=False, timeout=60):
        """Status and document (or bytes) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = {"Authorization": "Bearer " + (self.token if token is None else token)}
        if token == "":
            sent = {}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        connection.request(method, path if path.startswith("/") else "/api/v1/" + path, body, sent)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        self.headers = dict((k.lower(), v) for k, v in answer.getheaders())
        if raw or not self.headers.get("content-type", "").startswith(("application/json", "application/problem+json")):
            return answer.status, data
        return answer.status, json.loads(data)

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def post_later(self, path, body):
        """The same on a thread of its own: a promise of status and document."""
        return concurrent.futures.ThreadPoolExecutor(1).submit(self.post, path, body)

    def state(self, run):
        return self.get("opd/status?run_id=" + run)[1]["state"]

    def wait_state(self, run, *states, seconds=60.0):
        return wait_for(lambda: (lambda s: s if s in states else None)(self.state(run)), seconds)

    def stop(self):
        self.process.terminate()
        status = self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Socket:
    """A WebSocket client: text frames in, one text frame out."""

    def __init__(self, service, path, host=None, origin=None, first=None, token=None):
        self.socket = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{service.port}'}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Protocol: kdlib.v1"]
        if origin:
            lines.append("Origin: " + origin)
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            piece = self.socket.recv(4096)
            if not piece:
                break
            self.buffer += piece
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])
        self.close_code = None
        if self.status == 101:
            self.send(first if first is not None else json.dumps(
                {"token": service.token if token is None else token, "from_step": 0}))

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(bytes([0x80 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def read(self, count):
        while len(self.buffer) < count:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise EOFError
            self.buffer += piece
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def message(self):
        """The next event, or nothing once the other side has closed. Long ones come in several frames."""
        text = b""
        while True:
            try:
                first, second = self.read(2)
            except (EOFError, ConnectionError):
                return None
            size = second & 127
            if size == 126:
                size = struct.unpack(">H", self.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.read(8))[0]
            data = self.read(size)
            if first & 15 <= 1:
                text += data
                if first & 0x80:
                    return json.loads(text)
            if first & 15 == 8:
                self.close_code = struct.unpack(">H", data[:2])[0] if len(data) >= 2 else 1005
                return None
            if first & 15 == 9:
                self.send(data, 10)

    def all(self):
        out = []
        while (event := self.message()) is not None:
            out.append(event)
            if event["type"] == "end":
                break
        return out

    def close(self):
        self.socket.close()


def steps_of(events):
    """The lines of metrics of a listener, in the order in which they came."""
    out = []
    for event in events:
        if event["type"] == "history":
            out += event["lines"]
        elif event["type"] == "metrics":
            out.append(event["values"])
        elif event["type"] == "rewind":
            out = [line for line in out if line["step"] <= event["step"]]
    return out


def clean(folder):
    shutil.rmtree(folder, ignore_errors=True)
    pathlib.Path(folder).mkdir(parents=True)
    return pathlib.Path(folder)
