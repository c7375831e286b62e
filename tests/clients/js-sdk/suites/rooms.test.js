// Making rooms, coming and going, and who may do what (client-server API, "Rooms").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { before } from "node:test";
import { refused } from "../support/refusal.js";
import { request } from "../support/exchanges.js";
import { freshName, newClient, roomOf, until, untilEvent, untilMembership } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice");
  bob = await newClient("bob");
});

const stateOf = (client, roomId, type, key = "") =>
  client.getRoom(roomId)?.getLiveTimeline().getState("f").getStateEvents(type, key);

test("an invited user sees who invites to what, joins, and both see each other", async () => {
  const { room_id: roomId } = await alice.createRoom({ name: "Kitchen", topic: "What to cook", invite: [bob.getUserId()] });
  const invited = await untilMembership(bob, roomId, "invite");
  assert.equal(invited.name, "Kitchen");
  assert.equal(invited.getMember(bob.getUserId()).events.member.getSender(), alice.getUserId());
  assert.ok(stateOf(bob, roomId, "m.room.create"), "the create event is in the stripped state");

  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
  for (const client of [alice, bob]) {
    await until(client, "two members", () => client.getRoom(roomId)?.getJoinedMemberCount() === 2);
  }
  assert.equal(bob.getRoom(roomId).name, "Kitchen");
  assert.equal(stateOf(bob, roomId, "m.room.topic").getContent().topic, "What to cook");
  const { joined } = await bob.getJoinedRoomMembers(roomId);
  assert.deepEqual(Object.keys(joined).sort(), [alice.getUserId(), bob.getUserId()].sort());
  assert.ok((await bob.getJoinedRooms()).joined_rooms.includes(roomId));
});

test("an invitation that is declined is gone", async () => {
  const { room_id: roomId } = await alice.createRoom({ invite: [bob.getUserId()] });
  await untilMembership(bob, roomId, "invite");
  await bob.leave(roomId);
  await untilMembership(bob, roomId, "leave");
  await until(alice, "the refusal", () => alice.getRoom(roomId)?.getMember(bob.getUserId())?.membership === "leave");
  await refused(bob.joinRoom(roomId), 403, "M_FORBIDDEN");
});

test("createRoom's options end up in the room's state", async () => {
  const { room_id: roomId } = await alice.createRoom({
    preset: "public_chat",
    visibility: "private",
    room_version: "11",
    creation_content: { "m.federate": false },
    power_level_content_override: { events_default: 10 },
    initial_state: [
      { type: "m.room.history_visibility", state_key: "", content: { history_visibility: "joined" } },
      { type: "org.example.kind", state_key: "a", content: { answer: 42 } },
    ],
    name: "Options",
  });
  const state = await alice.roomState(roomId);
  const content = (type, key = "") => state.find((event) => event.type === type && event.state_key === key)?.content;
  assert.equal(content("m.room.create").room_version, "11");
  assert.equal(content("m.room.create")["m.federate"], false);
  assert.equal(content("m.room.power_levels").events_default, 10);
  assert.equal(content("m.room.power_levels").users[alice.getUserId()], 100);
  assert.equal(content("m.room.history_visibility").history_visibility, "joined");
  assert.equal(content("m.room.join_rules").join_rule, "public");
  assert.deepEqual(content("org.example.kind", "a"), { answer: 42 });
  assert.equal((await alice.getStateEvent(roomId, "m.room.name", "")).name, "Options");
  await refused(alice.getStateEvent(roomId, "m.room.topic", ""), 404, "M_NOT_FOUND");
  await refused(alice.createRoom({ room_version: "no such version" }), 400, "M_UNSUPPORTED_ROOM_VERSION");
});

test("presets set join rules, history and the rank of those invited", async () => {
  const expected = {
    private_chat: { join: "invite", history: "shared", bob: undefined },
    trusted_private_chat: { join: "invite", history: "shared", bob: 100 },
    public_chat: { join: "public", history: "shared", bob: undefined },
  };
  for (const [preset, want] of Object.entries(expected)) {
    // In version 12 those of a trusted private chat are additional creators instead, so that is another test.
    const { room_id: roomId } = await alice.createRoom({ preset, room_version: "11", invite: [bob.getUserId()] });
    assert.equal((await alice.getStateEvent(roomId, "m.room.join_rules", "")).join_rule, want.join);
    assert.equal((await alice.getStateEvent(roomId, "m.room.history_visibility", "")).history_visibility, want.history);
    assert.equal((await alice.getStateEvent(roomId, "m.room.power_levels", "")).users[bob.getUserId()], want.bob, preset);
  }
});

test("a version 12 room is named by its create event and its creator outranks everybody", async () => {
  const { room_id: roomId } = await alice.createRoom({ room_version: "12", invite: [bob.getUserId()] });
  assert.match(roomId, /^![A-Za-z0-9_-]{43}$/);
  await untilMembership(bob, roomId, "invite");
  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
  const create = stateOf(bob, roomId, "m.room.create");
  assert.equal(`!${create.getId().slice(1)}`, roomId);
  const levels = await alice.getStateEvent(roomId, "m.room.power_levels", "");
  assert.equal(levels.users?.[alice.getUserId()], undefined, "a creator is not in the power levels");
  await alice.setPowerLevel(roomId, bob.getUserId(), 100);
  await until(bob, "bob's rank", () => bob.getRoom(roomId).getMember(bob.getUserId()).powerLevel === 100);
  await refused(bob.kick(roomId, alice.getUserId()), 403, "M_FORBIDDEN");
  await alice.sendTextMessage(roomId, "still here");
});

test("a kicked user may come back if invited, a banned one only after the ban is lifted", async () => {
  const roomId = await roomOf(alice, [bob]);
  await alice.kick(roomId, bob.getUserId(), "too loud");
  const kicked = await untilMembership(bob, roomId, "leave");
  assert.equal(kicked.getMember(bob.getUserId()).events.member.getContent().reason, "too loud");
  await refused(bob.sendTextMessage(roomId, "anyone?"), 403, "M_FORBIDDEN");

  await alice.ban(roomId, bob.getUserId(), "and again");
  await until(alice, "the ban", () => alice.getRoom(roomId).getMember(bob.getUserId()).membership === "ban");
  await refused(bob.joinRoom(roomId), 403, ["M_FORBIDDEN", "M_BAD_STATE"]);
  await refused(alice.invite(roomId, bob.getUserId()), 403, ["M_FORBIDDEN", "M_BAD_STATE"]);

  await alice.unban(roomId, bob.getUserId());
  await alice.invite(roomId, bob.getUserId());
  await untilMembership(bob, roomId, "invite");
  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
});

test("a knock is seen by the members, and an answer lets the user in", async () => {
  const { room_id: roomId } = await alice.createRoom({
    preset: "private_chat",
    name: "Knock here",
    initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
  });
  await refused(bob.joinRoom(roomId), 403, "M_FORBIDDEN");
  await bob.knockRoom(roomId, { reason: "let me in" });
  const knocked = await untilMembership(bob, roomId, "knock");
  assert.equal(knocked.name, "Knock here");
  await until(alice, "the knock", () => {
    const member = alice.getRoom(roomId)?.getMember(bob.getUserId());
    return member?.membership === "knock" && member.events.member.getContent().reason === "let me in";
  });
  await alice.invite(roomId, bob.getUserId());
  await untilMembership(bob, roomId, "invite");
  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
});

test("a knock can be withdrawn", async () => {
  const { room_id: roomId } = await alice.createRoom({
    initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
  });
  await bob.knockRoom(roomId);
  await untilMembership(bob, roomId, "knock");
  await bob.leave(roomId);
  await untilMembership(bob, roomId, "leave");
  await until(alice, "the withdrawal", () => alice.getRoom(roomId)?.getMember(bob.getUserId())?.membership === "leave");
});

test("a room that was left and forgotten cannot be read any more", async () => {
  const roomId = await roomOf(alice, [bob]);
  await refused(bob.forget(roomId, false), 400, ["M_UNKNOWN"]);
  await bob.leave(roomId);
  await untilMembership(bob, roomId, "leave");
  const { chunk } = await bob.createMessagesRequest(roomId, null, 10, "b");
  assert.ok(chunk.length > 0, "a room that was left can still be read up to there");
  await bob.forget(roomId, false);
  await refused(bob.createMessagesRequest(roomId, null, 10, "b"), 403, "M_FORBIDDEN");
});

test("aliases lead to the room, belong to one room, and can be deleted", async () => {
  const localpart = freshName("alias");
  const { room_id: roomId } = await alice.createRoom({ preset: "public_chat", room_alias_name: localpart });
  const domain = alice.getDomain();
  const alias = `#${localpart}:${domain}`;
  assert.equal((await bob.getRoomIdForAlias(alias)).room_id, roomId);
  assert.equal((await alice.getStateEvent(roomId, "m.room.canonical_alias", "")).alias, alias);
  await refused(alice.createRoom({ room_alias_name: localpart }), 400, "M_ROOM_IN_USE");

  const second = `#${freshName("second")}:${domain}`;
  await alice.createAlias(second, roomId);
  assert.deepEqual((await alice.getLocalAliases(roomId)).aliases.sort(), [alias, second].sort());
  await refused(alice.createAlias(second, roomId), 409, ["M_UNKNOWN"]);
  await refused(bob.deleteAlias(second), 403, "M_FORBIDDEN");
  await alice.deleteAlias(second);
  await refused(bob.getRoomIdForAlias(second), 404, "M_NOT_FOUND");

  const joined = await bob.joinRoom(alias);
  assert.equal(joined.roomId, roomId);
  await untilMembership(bob, roomId, "join");
});

test("a published room is found in the directory and by its summary", async () => {
  const name = freshName("Directory");
  const { room_id: roomId } = await alice.createRoom({ preset: "public_chat", name, topic: "found" });
  assert.equal((await alice.getRoomDirectoryVisibility(roomId)).visibility, "private");
  await alice.setRoomDirectoryVisibility(roomId, "public");
  assert.equal((await bob.getRoomDirectoryVisibility(roomId)).visibility, "public");
  const { chunk } = await bob.publicRooms({ limit: 10, filter: { generic_search_term: name } });
  assert.deepEqual(chunk.map((room) => room.room_id), [roomId]);
  assert.deepEqual(
    [chunk[0].name, chunk[0].topic, chunk[0].num_joined_members, chunk[0].world_readable, chunk[0].join_rule],
    [name, "found", 1, false, "public"],
  );
  const summary = await bob.getRoomSummary(roomId);
  assert.deepEqual([summary.room_id, summary.name, summary.num_joined_members], [roomId, name, 1]);
  await alice.setRoomDirectoryVisibility(roomId, "private");
  const gone = await bob.publicRooms({ limit: 10, filter: { generic_search_term: name } });
  assert.deepEqual(gone.chunk, []);
});

test("an ordinary member may talk but not rename, kick, or raise itself", async () => {
  const roomId = await roomOf(alice, [bob]);
  await bob.sendTextMessage(roomId, "hello");
  await refused(bob.setRoomName(roomId, "Bob's"), 403, "M_FORBIDDEN");
  await refused(bob.kick(roomId, alice.getUserId()), 403, "M_FORBIDDEN");
  await refused(bob.setPowerLevel(roomId, bob.getUserId(), 100), 403, "M_FORBIDDEN");
  await alice.setPowerLevel(roomId, bob.getUserId(), 50);
  await until(bob, "the promotion", () => bob.getRoom(roomId).getMember(bob.getUserId()).powerLevel === 50);
  await bob.setRoomName(roomId, "Bob's");
  await until(alice, "the new name", () => alice.getRoom(roomId).name === "Bob's");
});

test("an upgrade leaves a tombstone and carries name, power levels and bans over", async () => {
  const banned = await newClient("banned");
  const localpart = freshName("upgraded");
  const roomId = await roomOf(alice, [bob], {
    name: "Old house",
    topic: "moving",
    room_version: "10",
    room_alias_name: localpart,
    preset: "public_chat",
  });
  await alice.ban(roomId, banned.getUserId());
  await alice.setPowerLevel(roomId, bob.getUserId(), 20);
  await until(bob, "the promotion", () => bob.getRoom(roomId).getMember(bob.getUserId()).powerLevel === 20);
  await refused(bob.upgradeRoom(roomId, "11"), 403, "M_FORBIDDEN");

  const { replacement_room: replacement } = await alice.upgradeRoom(roomId, "11");
  const tombstone = await until(bob, "the tombstone", () => stateOf(bob, roomId, "m.room.tombstone"));
  assert.equal(tombstone.getContent().replacement_room, replacement);
  await refused(bob.sendTextMessage(roomId, "too late"), 403, "M_FORBIDDEN");

  await bob.joinRoom(replacement);
  const room = await untilMembership(bob, replacement, "join");
  assert.equal(room.name, "Old house");
  assert.equal(room.getVersion(), "11");
  assert.equal(stateOf(bob, replacement, "m.room.create").getContent().predecessor.room_id, roomId);
  assert.equal(room.getMember(bob.getUserId()).powerLevel, 20);
  assert.equal((await bob.getRoomIdForAlias(`#${localpart}:${alice.getDomain()}`)).room_id, replacement);
  await refused(banned.joinRoom(replacement), 403, ["M_FORBIDDEN", "M_BAD_STATE"]);
  assert.deepEqual(bob.getRoomUpgradeHistory(replacement).map((one) => one.roomId), [roomId, replacement]);
});

test("a room is upgraded to version 12 with its creator kept out of the power levels", async () => {
  const roomId = await roomOf(alice, [bob], { room_version: "11", name: "To twelve" });
  const { replacement_room: replacement } = await alice.upgradeRoom(roomId, "12");
  await until(bob, "the tombstone", () => stateOf(bob, roomId, "m.room.tombstone")?.getContent().replacement_room === replacement);
  const create = await alice.getStateEvent(replacement, "m.room.create", "");
  assert.equal(create.room_version, "12");
  assert.equal(create.predecessor.room_id, roomId);
  const levels = await alice.getStateEvent(replacement, "m.room.power_levels", "");
  assert.equal(levels.users?.[alice.getUserId()], undefined);
  assert.equal((await alice.getStateEvent(replacement, "m.room.name", "")).name, "To twelve");
});

test("a space lists its rooms, and only those the asker may see", async () => {
  const via = [alice.getDomain()];
  const { room_id: space } = await alice.createRoom({
    preset: "public_chat",
    name: "House",
    creation_content: { type: "m.space" },
  });
  const child = async (name, options) => (await alice.createRoom({ name, ...options })).room_id;
  const open = await child("Hall", { preset: "public_chat" });
  const closed = await child("Safe", { preset: "private_chat" });
  const inner = await child("Cellar", { preset: "public_chat", creation_content: { type: "m.space" } });
  const below = await child("Wine", { preset: "public_chat" });
  await alice.sendStateEvent(space, "m.space.child", { via, order: "a", suggested: true }, open);
  await alice.sendStateEvent(space, "m.space.child", { via, order: "b" }, closed);
  await alice.sendStateEvent(space, "m.space.child", { via, order: "c" }, inner);
  await alice.sendStateEvent(inner, "m.space.child", { via }, below);

  const names = async (client, ...options) => (await client.getRoomHierarchy(space, ...options)).rooms.map((room) => room.name);
  assert.deepEqual(await names(alice), ["House", "Hall", "Safe", "Cellar", "Wine"]);
  assert.deepEqual(await names(bob), ["House", "Hall", "Cellar", "Wine"]);
  assert.deepEqual(await names(bob, 10, 1), ["House", "Hall", "Cellar"]);
  assert.deepEqual(await names(bob, 10, 1, true), ["House", "Hall"]);

  const { rooms } = await bob.getRoomHierarchy(space);
  assert.equal(rooms[0].room_type, "m.space");
  assert.deepEqual(rooms[0].children_state.map((event) => event.state_key), [open, closed, inner]);
  const first = await bob.getRoomHierarchy(space, 2);
  assert.equal(first.rooms.length, 2);
  const rest = await bob.getRoomHierarchy(space, 2, undefined, false, first.next_batch);
  assert.deepEqual(rest.rooms.map((room) => room.name), ["Cellar", "Wine"]);
});

test("members of a space join its restricted room without an invitation", async () => {
  const { room_id: space } = await alice.createRoom({ preset: "public_chat", creation_content: { type: "m.space" } });
  const { room_id: roomId } = await alice.createRoom({
    initial_state: [
      {
        type: "m.room.join_rules",
        state_key: "",
        content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: space }] },
      },
    ],
  });
  await refused(bob.joinRoom(roomId), 403, "M_FORBIDDEN");
  await bob.joinRoom(space);
  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
});

test("state, members and events are read one by one", async () => {
  const roomId = await roomOf(alice, [bob]);
  const { event_id: eventId } = await alice.sendTextMessage(roomId, "look at me");
  const event = await bob.fetchRoomEvent(roomId, eventId);
  assert.deepEqual([event.type, event.sender, event.room_id, event.content.body], ["m.room.message", alice.getUserId(), roomId, "look at me"]);
  await refused(bob.fetchRoomEvent(roomId, "$nosuchevent"), 404, "M_NOT_FOUND");

  const { chunk } = await bob.members(roomId);
  assert.deepEqual(chunk.map((member) => member.state_key).sort(), [alice.getUserId(), bob.getUserId()].sort());
  const joined = await bob.members(roomId, "join");
  assert.equal(joined.chunk.length, 2);
  const found = await bob.timestampToEvent(roomId, event.origin_server_ts, "f");
  assert.deepEqual(found, { event_id: eventId, origin_server_ts: event.origin_server_ts });
});

test("a stranger can read nothing of a private room and do nothing in it", async () => {
  const stranger = await newClient("stranger");
  const roomId = await roomOf(alice, [bob]);
  const { event_id: eventId } = await alice.sendTextMessage(roomId, "secret");
  await refused(stranger.createMessagesRequest(roomId, null, 10, "b"), 403, "M_FORBIDDEN");
  await refused(stranger.roomState(roomId), 403, "M_FORBIDDEN");
  await refused(stranger.getStateEvent(roomId, "m.room.create", ""), 403, "M_FORBIDDEN");
  await refused(stranger.members(roomId), 403, "M_FORBIDDEN");
  await refused(stranger.fetchRoomEvent(roomId, eventId), [403, 404], ["M_FORBIDDEN", "M_NOT_FOUND"]);
  await refused(stranger.joinRoom(roomId), 403, "M_FORBIDDEN");
  await refused(stranger.invite(roomId, bob.getUserId()), 403, "M_FORBIDDEN");
  const content = { msgtype: "m.text", body: "x" };
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${freshName("txn")}`;
  const { status, body } = await request("PUT", path, { token: stranger.getAccessToken(), json: content });
  assert.deepEqual([status, body.errcode], [403, "M_FORBIDDEN"]);
});

test("what was said before joining is hidden where history is for the joined", async () => {
  const { room_id: roomId } = await alice.createRoom({
    preset: "public_chat",
    initial_state: [{ type: "m.room.history_visibility", state_key: "", content: { history_visibility: "joined" } }],
  });
  const { event_id: hidden } = await alice.sendTextMessage(roomId, "before");
  await bob.joinRoom(roomId);
  const { event_id: visible } = await alice.sendTextMessage(roomId, "after");
  await untilEvent(bob, roomId, visible);
  const bodies = (await bob.createMessagesRequest(roomId, null, 50, "b")).chunk.map((event) => event.content.body).filter(Boolean);
  assert.deepEqual(bodies, ["after"]);
  await refused(bob.fetchRoomEvent(roomId, hidden), [403, 404], ["M_FORBIDDEN", "M_NOT_FOUND"]);
  assert.equal(bob.getRoom(roomId).findEventById(hidden), undefined);
});

test("what is said after being kicked is hidden", async () => {
  const roomId = await roomOf(alice, [bob]);
  await alice.sendTextMessage(roomId, "with you");
  await alice.kick(roomId, bob.getUserId());
  await untilMembership(bob, roomId, "leave");
  const { event_id: hidden } = await alice.sendTextMessage(roomId, "without you");
  const bodies = (await bob.createMessagesRequest(roomId, null, 50, "b")).chunk.map((event) => event.content.body).filter(Boolean);
  assert.deepEqual(bodies, ["with you"]);
  await refused(bob.fetchRoomEvent(roomId, hidden), [403, 404], ["M_FORBIDDEN", "M_NOT_FOUND"]);
});
