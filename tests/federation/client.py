"""A Matrix client, as small as the tests need it."""

import itertools
import json
import time
import urllib.error
import urllib.parse
import urllib.request

PATIENCE = 60.0
_numbers = itertools.count()


def quoted(text):
    return urllib.parse.quote(text, safe="")


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body

    @property
    def errcode(self):
        return self.body.get("errcode") if isinstance(self.body, dict) else None


class Client:
    """A logged-in user on a server."""

    def __init__(self, server, localpart):
        self.server = server
        self.token = None
        body = {"username": localpart, "password": "a good password", "auth": {"type": "m.login.dummy"}}
        body["initial_device_display_name"] = "test"
        account = self.call("POST", "/_matrix/client/v3/register", body)
        self.user_id, self.token, self.device_id = account["user_id"], account["access_token"], account["device_id"]
        self.next_batch = None

    def call(self, method, path, body=None, query=None, raw=None, content_type="application/json", timeout=90):
        url = self.server.url + path
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(url, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", content_type)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with self.server.open(request, timeout) as answer:
                content = answer.read()
                if "json" in answer.headers.get("Content-Type", ""):
                    return json.loads(content)
                return content
        except urllib.error.HTTPError as error:
            with error:
                content = error.read()
            try:
                content = json.loads(content)
            except ValueError:
                pass
            raise Refused(error.code, content) from None

    def room_path(self, room, *parts):
        return "/_matrix/client/v3/rooms/" + "/".join(quoted(part) for part in (room, *parts))

    def create_room(self, **body):
        return self.call("POST", "/_matrix/client/v3/createRoom", body)["room_id"]

    def join(self, room_or_alias, via=()):
        path = f"/_matrix/client/v3/join/{quoted(room_or_alias)}"
        query = [("via", server) for server in via] + [("server_name", server) for server in via]
        return self.call("POST", path, {}, query=query)["room_id"]

    def knock(self, room, via=()):
        query = [("via", server) for server in via] + [("server_name", server) for server in via]
        return self.call("POST", f"/_matrix/client/v3/knock/{quoted(room)}", {}, query=query)

    def act(self, room, what, **body):
        return self.call("POST", self.room_path(room, what), body)

    def send(self, room, content, event_type="m.room.message"):
        if isinstance(content, str):
            content = {"msgtype": "m.text", "body": content}
        path = self.room_path(room, "send", event_type, f"t{next(_numbers)}")
        return self.call("PUT", path, content)["event_id"]

    def redact(self, room, event_id):
        return self.call("PUT", self.room_path(room, "redact", event_id, f"t{next(_numbers)}"), {})["event_id"]

    def set_state(self, room, event_type, content, state_key=""):
        return self.call("PUT", self.room_path(room, "state", event_type, state_key), content)["event_id"]

    def state(self, room, event_type, state_key=""):
        return self.call("GET", self.room_path(room, "state", event_type, state_key))

    def event(self, room, event_id):
        return self.call("GET", self.room_path(room, "event", event_id))

    def members(self, room):
        joined = self.call("GET", self.room_path(room, "joined_members"))["joined"]
        return set(joined)

    def messages(self, room, **query):
        query = {"dir": "b", "limit": 50, **query}
        return self.call("GET", self.room_path(room, "messages"), query=query)

    def sync(self, timeout=0, **query):
        query = {"timeout": timeout, **query}
        if self.next_batch:
            query["since"] = self.next_batch
        answer = self.call("GET", "/_matrix/client/v3/sync", query=query)
        self.next_batch = answer["next_batch"]
        return answer

    def sync_until(self, found, what="it"):
        """Syncs until `found(answer)` gives something."""
        deadline = time.monotonic() + PATIENCE
        timeout = 0
        while True:
            result = found(self.sync(timeout=timeout))
            if result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.user_id} never saw {what}")
            timeout = 1000

    def wait_for_event(self, room, event_id):
        """The event, once it is in the timeline."""

        def found(answer):
            timeline = answer.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {})
            for event in timeline.get("events", []):
                if event["event_id"] == event_id:
                    return event
            return None

        return self.sync_until(found, f"the event {event_id}")

    def wait_for_invite(self, room):
        def found(answer):
            return answer.get("rooms", {}).get("invite", {}).get(room)

        return self.sync_until(found, f"an invitation to {room}")

    def wait_for_leave(self, room):
        def found(answer):
            return room in answer.get("rooms", {}).get("leave", {})

        return self.sync_until(found, f"that it is not in {room} any more")

    def upload(self, content, content_type):
        answer = self.call("POST", "/_matrix/media/v3/upload", raw=content, content_type=content_type)
        return answer["content_uri"]

    def download(self, uri):
        return self.call("GET", f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}")


def eventually(what, check):
    """What `check` gives once it gives something; refusals count as nothing."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            result = check()
            if result:
                return result
            last = None
        except Refused as refused:
            last = refused
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came to be that {what}" + (f": {last}" if last else ""))
        time.sleep(0.1)
