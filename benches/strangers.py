"""The strangers of doors.sh, and the client with a key beside them."""

import http.client
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

place, idle, slow, bodies, turns = sys.argv[1], *map(int, sys.argv[2:])
with open(place) as file:
    server = json.load(file)
agent, key = urlsplit(os.environ["url"]), os.environ["key"]
ports = [urlsplit(server[name]).port for name in ("url", "agents_url")]
BODY = 16 << 20


def memory() -> float:
    with open(f"/proc/{server['pid']}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def turn_times(count: int, threads: str) -> list[float]:
    """Turns, each on a connection of its own: a newcomer has to get through as well. On threads of their own: a long
    one takes longer."""
    taken = []
    for number in range(count):
        body = json.dumps({"thread_id": f"{threads} {number % 4}", "user_id": "u", "message": "hi"})
        begin = time.perf_counter()
        client = http.client.HTTPConnection(agent.hostname, agent.port, timeout=60)
        client.request("POST", f"{agent.path}/v1/chat", body, {"x-api-key": key})
        answer = client.getresponse()
        text = answer.read()
        client.close()
        taken.append((time.perf_counter() - begin) * 1000)
        if answer.status != 200:
            sys.exit(f"a turn was answered with {answer.status}: {text[:300]!r}")
    return taken


def connect(number: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", ports[number % 2]), timeout=30)


class Strangers:
    """Those of one kind, in a process of their own, until they are told to end."""

    def __init__(self, count: int, behave):
        self.count, self.behave = count, behave
        fork = multiprocessing.get_context("fork")
        self.end, self.ready = fork.Event(), fork.Event()
        self.process = fork.Process(target=self.run, daemon=True)

    def __enter__(self):
        self.process.start()
        if not self.ready.wait(60):
            self.process.kill()
            sys.exit("the strangers do not get through")
        return self

    def run(self):
        workers = min(8 if self.behave is not send_bodies else 100, self.count)
        here = threading.Barrier(workers + 1)
        threads = [
            threading.Thread(target=self.work, args=(range(n, self.count, workers), here)) for n in range(workers)
        ]
        for thread in threads:
            thread.start()
        here.wait()
        self.ready.set()
        for thread in threads:
            thread.join()

    def work(self, numbers, here):
        sockets = dict.fromkeys(numbers)
        first = True
        while not self.end.is_set():
            for number, connection in sockets.items():
                if self.end.is_set():
                    break
                try:
                    sockets[number] = self.behave(number, connection, self.end)
                except OSError:
                    # One that was closed calls again.
                    sockets[number] = None
            if first:
                first = False
                here.wait()
            self.end.wait(1)

    def __exit__(self, *_):
        self.end.set()
        self.process.join(30)
        self.process.kill()


def stay_idle(number, connection, _):
    """Says nothing; one that was closed calls again ten seconds later."""
    if connection is None:
        return connect(number)
    if isinstance(connection, float):
        return connection if time.monotonic() < connection else connect(number)
    connection.setblocking(False)
    try:
        if connection.recv(16) == b"":
            connection.close()
            return time.monotonic() + 10
    except BlockingIOError:
        pass
    return connection


def send_slowly(number, connection, _):
    """A byte a second."""
    if connection is None:
        connection = connect(number)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
    connection.sendall(b"x")
    return connection


def send_bodies(number, connection, end):
    """One body; the next when this one was refused, and a second later."""
    try:
        send_body(number, end)
    except OSError:
        pass
    end.wait(1)
    return None


def send_body(number, end):
    with connect(number) as connection:
        line = "POST /agents/a/v1/chat" if number % 2 else "POST /v1/agents/a/deploys"
        connection.sendall(f"{line} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n".encode())
        piece = b"x" * (1 << 18)
        for _ in range(BODY // len(piece)):
            if end.is_set():
                break
            connection.sendall(piece)


def measure(name: str, *strangers: Strangers) -> dict:
    most, over = [memory()], threading.Event()

    def watch():
        while not over.wait(0.02):
            most[0] = max(most[0], memory())

    entered = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for one in strangers:
            entered.append(one.__enter__())
        taken = sorted(turn_times(turns, name))
    finally:
        for one in entered:
            one.__exit__()
        over.set()
        watcher.join()
    return {
        "what": name,
        "median_ms": round(statistics.median(taken), 2),
        "p95_ms": round(taken[int(len(taken) * 0.95)], 2),
        "mib": round(most[0], 1),
    }


turn_times(max(turns // 4, 10), "before")
figures = [measure("nobody")]
figures.append(measure(f"{idle} idle", Strangers(idle, stay_idle)))
figures.append(measure(f"{slow} slow", Strangers(slow, send_slowly)))
figures.append(measure(f"{bodies} bodies of 16 MiB", Strangers(bodies, send_bodies)))
every = [Strangers(idle, stay_idle), Strangers(slow, send_slowly), Strangers(bodies, send_bodies)]
figures.append(measure("all of them", *every))
alone = figures[0]
print("| strangers | turn, median ms | p95 ms | server, MiB at most |\n| --- | --- | --- | --- |")
for one in figures:
    print(f"| {one['what']} | {one['median_ms']} | {one['p95_ms']} | {one['mib']} |")
print(json.dumps(figures))
grown = max(one["mib"] for one in figures) - alone["mib"]
faults = [f"{grown:.0f} MiB more memory"] if grown >= 50 else []
# A smoke has too few turns to be timed.
slower = [one for one in figures if turns >= 100 and one["median_ms"] > 2 * alone["median_ms"]]
faults += [f"{one['what']}: a turn takes {one['median_ms']} ms" for one in slower]
if faults:
    sys.exit("strangers cost too much: " + "; ".join(faults))
