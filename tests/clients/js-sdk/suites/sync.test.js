// Syncing: gaps, lazy members, state, several devices, to-device messages, and coming back
// (client-server API, "Syncing").
import { test } from "../support/suite.js";
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { before } from "node:test";
import { Direction, IndexedDBStore, TimelineWindow } from "matrix-js-sdk";
import { request } from "../support/exchanges.js";
import { clientOf, freshName, liveBodies, login, newClient, register, roomOf, start, stop, until, untilEvent, untilMembership } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice");
  bob = await newClient("bob");
});

const send = async (client, roomId, body) => (await client.sendTextMessage(roomId, body)).event_id;

/** One `/sync` of `account`, outside its client. */
async function rawSync(account, parameters) {
  const query = new URLSearchParams({ timeout: "0", ...parameters });
  const { status, body } = await request("GET", `/_matrix/client/v3/sync?${query}`, { token: account.accessToken });
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

test("a second device sees what the first one has: rooms, names, tags and account data", async () => {
  const account = await register("twodevices");
  const first = await start(clientOf(account));
  const { room_id: roomId } = await first.createRoom({ name: "Notes" });
  await first.setRoomTag(roomId, "m.favourite", { order: 0.25 });
  await first.setRoomAccountData(roomId, "org.example.scroll", { at: 7 });
  const eventId = await send(first, roomId, "buy milk");

  const second = await start(clientOf(await login(account)));
  const room = second.getRoom(roomId);
  assert.equal(room.name, "Notes");
  assert.equal(room.tags["m.favourite"].order, 0.25);
  assert.equal(room.getAccountData("org.example.scroll").getContent().at, 7);
  assert.ok(room.findEventById(eventId));

  await second.deleteRoomTag(roomId, "m.favourite");
  await until(first, "the tag gone", () => !first.getRoom(roomId).tags["m.favourite"]);
  assert.deepEqual(await first.getRoomTags(roomId), { tags: {} });
});

test("a client that comes back after a gap has the newest, the present state, and a way to the rest", async () => {
  const roomId = await roomOf(alice, [bob], { name: "Before" });
  const account = await login(bob.account);
  const dbName = freshName("store");
  const store = () => new IndexedDBStore({ indexedDB: globalThis.indexedDB, dbName });
  const away = clientOf(account, { store: store() });
  await away.store.startup();
  await start(away, { initialSyncLimit: 5 });
  const lastSeen = await send(alice, roomId, "seen");
  await untilEvent(away, roomId, lastSeen);
  // Twice, because the first may do no more than wait for a save that was under way without the event.
  await away.store.save(true);
  await away.store.save(true);
  stop(away);

  const expected = ["seen"];
  for (let i = 0; i < 30; i += 1) {
    await send(alice, roomId, `${i}`);
    expected.push(`${i}`);
  }
  await alice.setRoomName(roomId, "After");
  for (let i = 30; i < 40; i += 1) {
    await send(alice, roomId, `${i}`);
    expected.push(`${i}`);
  }

  const back = clientOf(account, { store: store() });
  await back.store.startup();
  await start(back, { initialSyncLimit: 5 });
  const room = back.getRoom(roomId);
  assert.equal(room.name, "After", "the name was changed inside the gap");
  assert.deepEqual(liveBodies(back, roomId).slice(-5), expected.slice(-5));
  assert.ok(liveBodies(back, roomId).length < 20, "the gap was not filled by the sync itself");

  // What is on the other side of the gap is a timeline of its own, which a window goes on to.
  const timelines = new TimelineWindow(back, room.getUnfilteredTimelineSet(), { windowLimit: 100 });
  await timelines.load(undefined, 5);
  for (let page = 0; page < 30 && !timelines.getEvents().some((event) => event.getId() === lastSeen); page += 1) {
    assert.ok(await timelines.paginate(Direction.Backward, 8), "history ended in the gap");
  }
  const bodies = timelines.getEvents().flatMap((event) => event.getContent().body ?? []);
  assert.deepEqual(bodies.slice(bodies.indexOf("seen")), expected);
});

test("a long-poll is answered when something happens, and with nothing when nothing does", async () => {
  const account = await register("poller");
  const { next_batch: since } = await rawSync(account, {});
  const started = Date.now();
  const quiet = await rawSync(account, { since, timeout: "500" });
  assert.ok(Date.now() - started >= 400, "it waited");
  assert.equal(quiet.rooms?.join && Object.keys(quiet.rooms.join).length ? "something" : "nothing", "nothing");

  const poll = rawSync(account, { since: quiet.next_batch, timeout: "20000" });
  await alice.createRoom({ invite: [account.userId], name: "Wake up" });
  const woken = await poll;
  const [invitation] = Object.values(woken.rooms.invite);
  assert.ok(invitation.invite_state.events.some((event) => event.type === "m.room.name" && event.content.name === "Wake up"));
});

test("state_after gives the state at the end of the timeline, state the one before it", async () => {
  const roomId = await roomOf(alice, [bob], { name: "zero" });
  const account = await login(bob.account);
  const { next_batch: since } = await rawSync(account, {});
  await alice.setRoomName(roomId, "one");
  for (let i = 0; i < 6; i += 1) await send(alice, roomId, `${i}`);
  await alice.setRoomName(roomId, "two");
  const filter = JSON.stringify({ room: { rooms: [roomId], timeline: { limit: 3 } } });
  const names = (events) => events.filter((event) => event.type === "m.room.name").map((event) => event.content.name);

  const before = (await rawSync(account, { since, filter })).rooms.join[roomId];
  assert.equal(before.timeline.limited, true);
  assert.deepEqual(names(before.state.events), ["one"]);
  assert.deepEqual(names(before.timeline.events), ["two"]);

  // The SDK asks by the unstable name.
  const after = (await rawSync(account, { since, filter, "org.matrix.msc4222.use_state_after": "true" })).rooms.join[roomId];
  assert.deepEqual(names(after["org.matrix.msc4222.state_after"].events), ["two"]);
  assert.equal(after.state?.events?.length ?? 0, 0);
});

const membersIn = (room) =>
  room.state.events.filter((event) => event.type === "m.room.member").map((event) => event.state_key).sort();

const lazily = (roomId, lazy) =>
  JSON.stringify({ room: { rooms: [roomId], state: { lazy_load_members: lazy }, timeline: { limit: 3 } } });

test("without lazy loading a sync has every member, with it only the speakers", async () => {
  const silent = await newClient("silent");
  const everybody = [alice, bob, silent].map((client) => client.getUserId()).sort();
  const roomId = await roomOf(alice, [bob, silent], { name: "Assembly" });
  for (let i = 0; i < 12; i += 1) await send(alice, roomId, `${i}`);
  const account = await login(bob.account);
  const full = (await rawSync(account, { filter: lazily(roomId, false) })).rooms.join[roomId];
  assert.deepEqual(membersIn(full), everybody);
  const lazy = (await rawSync(account, { filter: lazily(roomId, true) })).rooms.join[roomId];
  const members = membersIn(lazy);
  assert.ok(members.includes(alice.getUserId()) && !members.includes(silent.getUserId()), `${members}`);
  assert.equal(lazy.summary["m.joined_member_count"], 3);
});

test("a room without a name comes with its heroes and their memberships, silent or not", async () => {
  const silent = await newClient("silent");
  const roomId = await roomOf(alice, [bob, silent]);
  for (let i = 0; i < 12; i += 1) await send(alice, roomId, `${i}`);
  const lazy = (await rawSync(await login(bob.account), { filter: lazily(roomId, true) })).rooms.join[roomId];
  const heroes = [alice, silent].map((client) => client.getUserId()).sort();
  assert.deepEqual(lazy.summary["m.heroes"].toSorted(), heroes);
  assert.ok(heroes.every((hero) => membersIn(lazy).includes(hero)));
});

test("a client with lazy members learns of those who speak, and loads the rest when asked", async () => {
  const silent = await newClient("silent");
  const roomId = await roomOf(alice, [bob, silent], { name: "Assembly" });
  for (let i = 0; i < 6; i += 1) await send(alice, roomId, `${i}`);
  const lazy = await start(clientOf(await login(bob.account)), { lazyLoadMembers: true, initialSyncLimit: 3 });
  const room = lazy.getRoom(roomId);
  assert.equal(room.getJoinedMemberCount(), 3, "counted by the summary");
  assert.ok(!room.getMember(silent.getUserId()));

  const eventId = await send(silent, roomId, "I can speak");
  await untilEvent(lazy, roomId, eventId);
  assert.equal(room.getMember(silent.getUserId())?.membership, "join", "a speaker's membership comes with the words");
  await room.loadMembersIfNeeded();
  assert.deepEqual(
    room.getJoinedMembers().map((member) => member.userId).sort(),
    [alice, bob, silent].map((client) => client.getUserId()).sort(),
  );
});

test("a room without a name is called after its members", async () => {
  await alice.setDisplayName("Alice in the garden");
  const roomId = await roomOf(alice, [bob]);
  await until(bob, "the name", () => bob.getRoom(roomId).name === "Alice in the garden");
});

test("a room that is left moves to the left rooms, and joining again brings it back", async () => {
  const { room_id: roomId } = await alice.createRoom({ preset: "public_chat" });
  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
  const account = await login(bob.account);
  const { next_batch: since } = await rawSync(account, {});
  await bob.leave(roomId);
  await untilMembership(bob, roomId, "leave");
  const left = await rawSync(account, { since });
  assert.ok(left.rooms.leave[roomId].timeline.events.some((event) => event.content.membership === "leave"));
  // A first sync leaves such rooms out unless they are asked for.
  assert.equal((await rawSync(account, {})).rooms?.leave?.[roomId], undefined);
  const including = await rawSync(account, { filter: JSON.stringify({ room: { include_leave: true } }) });
  assert.ok(including.rooms.leave[roomId]);

  await bob.joinRoom(roomId);
  await untilMembership(bob, roomId, "join");
  assert.ok((await rawSync(account, { since: left.next_batch })).rooms.join[roomId]);
});

test("to-device messages arrive once, in order, at the device they are for", async () => {
  const received = [];
  const first = bob;
  const second = clientOf(await login(bob.account));
  const note = (event) => event.getType() === "org.example.ping" && received.push(event.getContent().number);
  second.on("toDeviceEvent", note);
  const strayed = [];
  first.on("toDeviceEvent", (event) => event.getType() === "org.example.ping" && strayed.push(event.getContent()));
  const ping = (number, device) =>
    alice.sendToDevice("org.example.ping", new Map([[bob.getUserId(), new Map([[device, { number }]])]]));
  for (let number = 0; number < 20; number += 1) await ping(number, second.getDeviceId());
  await start(second);
  for (let number = 20; number < 30; number += 1) await ping(number, second.getDeviceId());
  await until(second, "thirty messages", () => received.length >= 30);
  assert.deepEqual(received, Array.from({ length: 30 }, (_, number) => number));
  assert.deepEqual(strayed, []);

  await ping(100, "*");
  await until(second, "the broadcast", () => received.includes(100));
  await until(first, "the broadcast", () => strayed.length === 1);
});

test("to-device messages come again until the next token proves receipt", async () => {
  const account = await register("todevice");
  const { next_batch: since } = await rawSync(account, {});
  await alice.sendToDevice("org.example.ping", new Map([[account.userId, new Map([[account.deviceId, { number: 1 }]])]]));
  const pings = (answer) => (answer.to_device?.events ?? []).filter((event) => event.type === "org.example.ping");
  const first = await rawSync(account, { since });
  assert.equal(pings(first).length, 1);
  assert.equal(pings(await rawSync(account, { since })).length, 1, "an answer that was lost can be had again");
  assert.equal(pings(await rawSync(account, { since: first.next_batch })).length, 0);
  assert.equal(pings(await rawSync(account, {})).length, 0);
});

test("many writers at once: every client ends with the same events in the same order", async () => {
  const writers = [alice, bob, await newClient("third")];
  const roomId = await roomOf(alice, writers.slice(1));
  const ids = (
    await Promise.all(
      writers.map(async (writer, w) => {
        const sent = [];
        for (let i = 0; i < 15; i += 1) {
          const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${freshName("txn")}`;
          const json = { msgtype: "m.text", body: `${w}/${i}` };
          sent.push((await request("PUT", path, { token: writer.getAccessToken(), json })).body.event_id);
        }
        return sent;
      }),
    )
  ).flat();
  const orders = [];
  for (const client of writers) {
    for (const id of ids) await untilEvent(client, roomId, id);
    orders.push(client.getRoom(roomId).getLiveTimeline().getEvents().map((event) => event.getId()).filter((id) => ids.includes(id)));
  }
  assert.equal(orders[0].length, 45);
  assert.deepEqual(orders[1], orders[0]);
  assert.deepEqual(orders[2], orders[0]);
});

test("a filter narrows a sync to rooms, types and fields", async () => {
  const roomId = await roomOf(alice, [bob], { name: "Filtered" });
  const other = await roomOf(alice, [bob]);
  await send(alice, roomId, "first");
  await send(alice, roomId, "second");
  await alice.sendEvent(roomId, "org.example.other", { a: 1 });
  const account = await login(bob.account);
  const filter = JSON.stringify({
    presence: { types: [] },
    account_data: { types: [] },
    room: { rooms: [roomId], timeline: { limit: 1, types: ["m.room.message"] }, state: { types: ["m.room.name"] } },
  });
  const answer = await rawSync(account, { filter });
  assert.deepEqual(Object.keys(answer.rooms.join), [roomId]);
  assert.equal(answer.rooms.join[other], undefined);
  const room = answer.rooms.join[roomId];
  assert.deepEqual(room.timeline.events.map((event) => event.content.body), ["second"]);
  assert.deepEqual(room.state.events.map((event) => event.type), ["m.room.name"]);
  assert.equal(answer.account_data?.events?.length ?? 0, 0);
});
