#!/usr/bin/env python3
"""Many people open their clients at once: the time of a first /sync for each of them.

  tests/bench/first_syncs.py --server NAME=URL,HOW [--server ...] [--rooms 60] [--members 60] [--at-once 40] [--rounds 3]

Every member is in every room; `--at-once` of them log in anew and ask for their first sync in the same moment.
HOW is how accounts are made: `open`, or `secret:SHARED` for servers with /_synapse/admin/v1/register.
Rate limits of the servers have to be off. The servers take turns at every measurement; the last table
gives the mean time of an answer, its median, and how many times the base (the last server named) it is.

The shape is that of the workload published in SBRC 2026 (doi 10.5753/sbrc.2026.19722): 300 rooms of 300
members, 200 users; members lazily loaded with a timeline of 1 and of 20, and in full with a timeline of 10.
"""

import argparse
import concurrent.futures
import hashlib
import hmac
import http.client
import json
import statistics
import threading
import time
import urllib.parse

KINDS = {
    "lazy, timeline 1": (True, 1),
    "lazy, timeline 20": (True, 20),
    "full, timeline 10": (False, 10),
}
PATIENCE_S = 900
START_S = 60
WORKERS = 8
PASSWORD = "first syncs, all at once"


class Server:
    """One homeserver, with a connection for each thread that talks to it."""

    def __init__(self, text):
        self.name, rest = text.split("=", 1)
        self.url, self.how = rest.split(",", 1)
        address = urllib.parse.urlsplit(self.url)
        self.host, self.port = address.hostname, address.port
        self.local = threading.local()

    def connection(self):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        return self.local.connection

    def ask(self, method, path, body=None, token=None):
        """The body of the answer, which must be a success."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = "Bearer " + token
        connection = self.connection()
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer.status} {content[:300]!r}")
        return content

    def wait(self):
        """Until the server answers, or START_S have passed."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                return self.ask("GET", "/_matrix/client/versions")
            except OSError:
                self.connection().close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def json(self, *arguments, **named):
        return json.loads(self.ask(*arguments, **named))

    def register(self, user):
        if self.how == "open":
            body = {"username": user, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
            return self.json("POST", "/_matrix/client/v3/register", body)
        secret = self.how.removeprefix("secret:").encode()
        nonce = self.json("GET", "/_synapse/admin/v1/register")["nonce"]
        mac = hmac.new(secret, b"\0".join([nonce.encode(), user.encode(), PASSWORD.encode(), b"notadmin"]), hashlib.sha1)
        body = {"nonce": nonce, "username": user, "password": PASSWORD, "admin": False, "mac": mac.hexdigest()}
        return self.json("POST", "/_synapse/admin/v1/register", body)

    def login(self, user):
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": PASSWORD,
        }
        return self.json("POST", "/_matrix/client/v3/login", body)["access_token"]

    def prepare(self, rooms, members):
        """Rooms with everyone in them and 20 messages each."""
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            self.users = [f"user{n}-{time.time_ns()}" for n in range(members)]
            tokens = [account["access_token"] for account in pool.map(self.register, self.users)]
            room = {"preset": "public_chat", "name": "A room of the first syncs"}
            ids = [self.json("POST", "/_matrix/client/v3/createRoom", room, tokens[0])["room_id"] for _ in range(rooms)]

            def fill(room_id):
                path = "/_matrix/client/v3/rooms/" + urllib.parse.quote(room_id)
                for token in tokens[1:]:
                    self.ask("POST", path + "/join", {}, token)
                for n in range(20):
                    message = {"msgtype": "m.text", "body": f"message {n}"}
                    self.ask("PUT", f"{path}/send/m.room.message/{n}", message, tokens[n % len(tokens)])

            list(pool.map(fill, ids))
        print(f"{self.name}: {rooms} rooms of {members} members in {time.monotonic() - begin:.0f} s", flush=True)

    def measure(self, at_once, lazy, timeline):
        """The times of the answers in seconds, and the bytes of one."""
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            tokens = list(pool.map(self.login, self.users[:at_once]))
        room = {"timeline": {"limit": timeline}, "state": {"lazy_load_members": lazy}}
        query = urllib.parse.urlencode({"filter": json.dumps({"room": room}), "set_presence": "offline"})
        start = threading.Barrier(at_once)

        def sync(token):
            self.connection().connect()
            start.wait()
            begin = time.monotonic()
            size = len(self.ask("GET", "/_matrix/client/v3/sync?" + query, token=token))
            return time.monotonic() - begin, size

        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            results = list(pool.map(sync, tokens))
        return [seconds for seconds, _ in results], results[0][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", type=Server, required=True, metavar="NAME=URL,HOW")
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--members", type=int, default=60)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.at_once > options.members:
        parser.error("--at-once is at most --members")
    for server in options.server:
        server.wait()
        server.prepare(options.rooms, options.members)
    means = {}
    for kind, (lazy, timeline) in KINDS.items():
        for number in range(options.rounds):
            for server in options.server if number % 2 == 0 else reversed(options.server):
                times, size = server.measure(options.at_once, lazy, timeline)
                means.setdefault((kind, server.name), []).append(statistics.mean(times))
                print(
                    f"{kind:18} {server.name:10} mean {statistics.mean(times):8.3f} s"
                    f"  median {statistics.median(times):8.3f} s  max {max(times):8.3f} s  {size / 1e6:.2f} MB",
                    flush=True,
                )
    base = options.server[-1].name
    print(f"\n| first sync | server | mean of {options.at_once} at once, median of rounds | times {base} |\n|---|---|---:|---:|")
    for (kind, name), values in means.items():
        mean, of_base = statistics.median(values), statistics.median(means[kind, base])
        print(f"| {kind} | {name} | {mean:.3f} s | {of_base / mean:.1f} |")


if __name__ == "__main__":
    main()
