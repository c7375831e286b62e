#!/usr/bin/env python3
"""matrix-nio uses a homeserver: two users register, meet in a room, talk, and exchange a file.

  HOMESERVER_URL=http://127.0.0.1:8008 smoke.py
"""

import asyncio
import io
import os
import sys
import uuid

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    LoginResponse,
    MemoryDownloadResponse,
    RegisterResponse,
    RoomCreateResponse,
    RoomGetEventResponse,
    RoomMessagesResponse,
    RoomMessageText,
    RoomSendResponse,
    SyncResponse,
    UploadResponse,
)

HOMESERVER = os.environ["HOMESERVER_URL"].rstrip("/")
ROUNDS = 30


def expect(answer, kind):
    """The answer, if it is of the kind; nio answers refusals instead of raising them."""
    if not isinstance(answer, kind):
        raise AssertionError(f"expected {kind.__name__}, got {answer}")
    return answer


async def sync_until(client, what, condition):
    """Syncs until the condition gives something, a bounded number of times."""
    for _ in range(ROUNDS):
        if found := condition():
            return found
        expect(await client.sync(timeout=2000), SyncResponse)
    raise AssertionError(f"{client.user_id} synced {ROUNDS} times in vain for {what}")


async def registered(name):
    """A client whose user has just registered, logged out, and logged in again."""
    username = f"nio-{name}-{uuid.uuid4().hex[:10]}"
    password = f"{username} and a horse"
    client = AsyncClient(HOMESERVER, username, config=AsyncClientConfig(request_timeout=60))
    expect(await client.register(username, password, "nio"), RegisterResponse)
    user_id = client.user_id
    await client.logout()
    expect(await client.login(password, "nio again"), LoginResponse)
    assert client.user_id == user_id
    expect(await client.sync(timeout=0, full_state=True), SyncResponse)
    return client


async def talk(anna, bert):
    """A room with both, messages in both directions, and the history."""
    heard = []
    bert.add_event_callback(lambda _room, event: heard.append(event.body), RoomMessageText)
    created = await anna.room_create(name="Workshop", topic="nio", invite=[bert.user_id])
    room_id = expect(created, RoomCreateResponse).room_id
    await sync_until(bert, "the invitation", lambda: room_id in bert.invited_rooms)
    expect(await bert.join(room_id), JoinResponse)
    room = await sync_until(bert, "the room", lambda: bert.rooms.get(room_id))
    assert room.name == "Workshop" and room.topic == "nio", (room.name, room.topic)
    await sync_until(anna, "the other", lambda: room_id in anna.rooms and bert.user_id in anna.rooms[room_id].users)

    expected = [f"number {n}" for n in range(10)]
    for body in expected:
        content = {"msgtype": "m.text", "body": body}
        sent = expect(await anna.room_send(room_id, "m.room.message", content), RoomSendResponse)
    await sync_until(bert, "ten messages", lambda: len(heard) >= 10)
    assert heard == expected, heard
    event = expect(await bert.room_get_event(room_id, sent.event_id), RoomGetEventResponse).event
    assert event.body == "number 9"

    history = expect(await bert.room_messages(room_id, bert.next_batch, limit=50), RoomMessagesResponse)
    bodies = [event.body for event in history.chunk if isinstance(event, RoomMessageText)]
    assert bodies == expected[::-1], bodies
    return room_id


async def manners(anna, bert, room_id):
    """Typing, a receipt, a name, and leaving."""
    await anna.room_typing(room_id, True, 20_000)
    await sync_until(bert, "typing", lambda: anna.user_id in bert.rooms[room_id].typing_users)
    await anna.set_displayname("Anna")
    await sync_until(bert, "the name", lambda: bert.rooms[room_id].user_name(anna.user_id) == "Anna")
    content = {"msgtype": "m.text", "body": "read this"}
    sent = expect(await anna.room_send(room_id, "m.room.message", content), RoomSendResponse)
    await bert.room_read_markers(room_id, sent.event_id, sent.event_id)
    await sync_until(
        anna,
        "the receipt",
        lambda: getattr(anna.rooms[room_id].read_receipts.get(bert.user_id), "event_id", None) == sent.event_id,
    )
    await bert.room_leave(room_id)
    await sync_until(anna, "the farewell", lambda: bert.user_id not in anna.rooms[room_id].users)


async def exchange_a_file(anna, bert):
    """What one uploads, the other downloads."""
    data = bytes(range(256)) * 40
    uploaded, _ = await anna.upload(
        lambda _limits, _retries: io.BytesIO(data), content_type="application/octet-stream", filename="bytes", filesize=len(data)
    )
    uri = expect(uploaded, UploadResponse).content_uri
    received = expect(await bert.download(uri), MemoryDownloadResponse)
    assert received.body == data, f"{len(received.body)} bytes"
    assert received.filename == "bytes", received.filename


async def main():
    """All of it, and both clients closed at the end."""
    anna, bert = await registered("anna"), await registered("bert")
    try:
        room_id = await talk(anna, bert)
        await manners(anna, bert, room_id)
        await exchange_a_file(anna, bert)
    finally:
        await anna.close()
        await bert.close()
    print("matrix-nio: registered, met, talked, exchanged a file")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
