// What is said in rooms: sending, editing, reacting, redacting, replying, threads, and reading back
// (client-server API, "Sending events", "Relationship types", "Threading").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { before } from "node:test";
import { ThreadFilterType } from "matrix-js-sdk";
import { refused } from "../support/refusal.js";
import { request } from "../support/exchanges.js";
import { freshName, liveBodies, liveEvents, newClient, roomOf, sendInThread, until, untilEvent } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice");
  bob = await newClient("bob");
});

const send = async (client, roomId, body) => (await client.sendTextMessage(roomId, body)).event_id;

/** Every event of a room by `/messages`, oldest first, `limit` at a time from the end. */
async function readBack(client, roomId, limit) {
  const events = [];
  let from = null;
  for (let page = 0; page < 200; page += 1) {
    const { chunk, end } = await client.createMessagesRequest(roomId, from, limit, "b");
    events.push(...chunk);
    if (!end) return events.reverse();
    from = end;
  }
  assert.fail("200 pages and no end");
}

const numbers = (events) => events.filter((event) => event.type === "m.room.message").map((event) => event.content.body);

test("messages go both ways, in order, and replace their local echoes", async () => {
  const roomId = await roomOf(alice, [bob]);
  for (let i = 0; i < 5; i += 1) {
    await untilEvent(bob, roomId, await send(alice, roomId, `alice ${i}`));
    await untilEvent(alice, roomId, await send(bob, roomId, `bob ${i}`));
  }
  const expected = [0, 1, 2, 3, 4].flatMap((i) => [`alice ${i}`, `bob ${i}`]);
  for (const client of [alice, bob]) {
    await until(client, "the local echoes replaced", () => liveEvents(client, roomId).every((event) => event.status === null));
    assert.deepEqual(liveBodies(client, roomId), expected);
  }
});

test("a transaction repeated gives the same event, and only one", async () => {
  const roomId = await roomOf(alice, [bob]);
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${freshName("txn")}`;
  const send = () => request("PUT", path, { token: alice.getAccessToken(), json: { msgtype: "m.text", body: "once" } });
  const answers = await Promise.all([send(), send(), send()]);
  const again = await send();
  const ids = new Set([...answers, again].map((answer) => answer.body.event_id));
  assert.deepEqual([ids.size, again.status], [1, 200]);
  await untilEvent(bob, roomId, again.body.event_id);
  assert.deepEqual(numbers(await readBack(bob, roomId, 50)), ["once"]);
  const event = await untilEvent(alice, roomId, again.body.event_id);
  assert.equal(event.getUnsigned().transaction_id, path.split("/").pop());
  const seenByBob = await bob.fetchRoomEvent(roomId, again.body.event_id);
  assert.equal(seenByBob.unsigned?.transaction_id, undefined, "only the sender's device sees the transaction");
});

test("an edit replaces the text for everybody", async () => {
  const roomId = await roomOf(alice, [bob]);
  const original = await send(alice, roomId, "frist");
  await untilEvent(bob, roomId, original);
  await alice.sendMessage(roomId, {
    msgtype: "m.text",
    body: "* first",
    "m.new_content": { msgtype: "m.text", body: "first" },
    "m.relates_to": { rel_type: "m.replace", event_id: original },
  });
  for (const client of [alice, bob]) {
    const event = client.getRoom(roomId).findEventById(original);
    await until(client, "the edit", () => event.getContent().body === "first");
  }
  const { unsigned } = await bob.fetchRoomEvent(roomId, original);
  assert.equal(unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "first");
  const { chunk } = await bob.fetchRelations(roomId, original, "m.replace", "m.room.message");
  assert.deepEqual(chunk.map((event) => event.content.body), ["* first"]);
});

test("an edit by somebody else changes nothing", async () => {
  const roomId = await roomOf(alice, [bob]);
  const original = await send(alice, roomId, "mine");
  await bob.sendMessage(roomId, {
    msgtype: "m.text",
    body: "* yours",
    "m.new_content": { msgtype: "m.text", body: "yours" },
    "m.relates_to": { rel_type: "m.replace", event_id: original },
  });
  const { unsigned } = await alice.fetchRoomEvent(roomId, original);
  assert.equal(unsigned?.["m.relations"]?.["m.replace"], undefined);
});

test("reactions are gathered under their message, once for each user and key", async () => {
  const roomId = await roomOf(alice, [bob]);
  const message = await send(alice, roomId, "cake?");
  const react = (client, key) =>
    client.sendEvent(roomId, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: message, key } });
  await react(bob, "👍");
  await react(alice, "👍");
  const { event_id: hand } = await react(bob, "🎂");
  await refused(react(bob, "🎂"), 400, "M_DUPLICATE_ANNOTATION");
  await untilEvent(alice, roomId, hand);
  const relations = alice.getRoom(roomId).relations.getChildEventsForEvent(message, "m.annotation", "m.reaction");
  const counts = Object.fromEntries(relations.getSortedAnnotationsByKey().map(([key, events]) => [key, events.size]));
  assert.deepEqual(counts, { "👍": 2, "🎂": 1 });

  await bob.redactEvent(roomId, hand);
  await until(alice, "the reaction gone", () => relations.getSortedAnnotationsByKey().every(([key, events]) => key !== "🎂" || events.size === 0));
  const { chunk } = await alice.fetchRelations(roomId, message, "m.annotation", "m.reaction");
  assert.deepEqual(chunk.map((event) => event.content["m.relates_to"].key), ["👍", "👍"]);
  await react(bob, "🎂");
});

test("a redaction takes the content from everybody, and only who may can redact", async () => {
  const roomId = await roomOf(alice, [bob]);
  const message = await send(alice, roomId, "regret");
  await untilEvent(bob, roomId, message);
  await refused(bob.redactEvent(roomId, message), 403, "M_FORBIDDEN");
  const { event_id: redaction } = await alice.redactEvent(roomId, message, undefined, { reason: "typo" });
  const event = bob.getRoom(roomId).findEventById(message);
  await until(bob, "the redaction", () => event.isRedacted());
  assert.deepEqual(event.getContent(), {});
  const stored = await bob.fetchRoomEvent(roomId, message);
  assert.deepEqual(stored.content, {});
  assert.equal(stored.unsigned.redacted_because.event_id, redaction);
  assert.equal(stored.unsigned.redacted_because.content.reason, "typo");
  const [read] = (await readBack(bob, roomId, 50)).filter((one) => one.event_id === message);
  assert.deepEqual(read.content, {});
  // A moderator may redact what others said.
  const other = await send(bob, roomId, "rude");
  await alice.redactEvent(roomId, other);
  const rude = await untilEvent(bob, roomId, other);
  await until(bob, "the moderation", () => rude.isRedacted());
});

test("a reply names what it answers and highlights whom it mentions", async () => {
  const roomId = await roomOf(alice, [bob]);
  const question = await send(alice, roomId, "when?");
  await untilEvent(bob, roomId, question);
  const { event_id: answer } = await bob.sendMessage(roomId, {
    msgtype: "m.text",
    body: "now",
    "m.mentions": { user_ids: [alice.getUserId()] },
    "m.relates_to": { "m.in_reply_to": { event_id: question } },
  });
  const event = await untilEvent(alice, roomId, answer);
  assert.equal(event.replyEventId, question);
  await until(alice, "the highlight", () => alice.getRoom(roomId).getUnreadNotificationCount("highlight") === 1);
  assert.equal(alice.getRoom(roomId).getUnreadNotificationCount("total"), 1);
});

test("a thread has its own timeline, a summary at its root, and a place in the list of threads", async () => {
  const roomId = await roomOf(alice, [bob]);
  const root = await send(alice, roomId, "let us discuss");
  await send(alice, roomId, "something else");
  const one = await sendInThread(bob, roomId, root, "one");
  const two = await sendInThread(bob, roomId, root, "two");

  await until(alice, "the thread", () => {
    const thread = alice.getRoom(roomId).getThread(root);
    return thread?.findEventById(one) && thread.findEventById(two);
  });
  assert.ok(!liveBodies(alice, roomId).includes("two"), "a threaded message is not in the main timeline");

  const summary = async (client) => (await client.fetchRoomEvent(roomId, root)).unsigned["m.relations"]["m.thread"];
  const ofBob = await summary(bob);
  assert.deepEqual([ofBob.count, ofBob.latest_event.content.body, ofBob.current_user_participated], [2, "two", true]);
  // The root's sender takes part too.
  assert.equal((await summary(alice)).current_user_participated, true);

  const { chunk: all } = await alice.createThreadListMessagesRequest(roomId, null, 10, "b", null);
  assert.deepEqual(all.map((event) => event.event_id), [root]);
  const { chunk } = await alice.fetchRelations(roomId, root, "m.thread", null, { dir: "f" });
  assert.deepEqual(chunk.map((event) => event.content.body), ["one", "two"]);
});

test("whoever only reads a thread does not take part in it, and whoever answers does at once", async () => {
  const carol = await newClient("carol");
  const roomId = await roomOf(alice, [bob, carol]);
  const root = await send(alice, roomId, "root");
  const takesPart = async () =>
    (await carol.fetchRoomEvent(roomId, root)).unsigned["m.relations"]["m.thread"].current_user_participated;
  const listed = async () =>
    (await carol.createThreadListMessagesRequest(roomId, null, 10, "b", ThreadFilterType.My)).chunk.map((event) => event.event_id);
  await sendInThread(bob, roomId, root, "in it");
  assert.deepEqual([await takesPart(), await listed()], [false, []]);
  await sendInThread(carol, roomId, root, "in it");
  assert.deepEqual([await takesPart(), await listed()], [true, [root]]);
});

test("a long history is read page by page, whole, in order, without doubles", async () => {
  const roomId = await roomOf(alice, [bob]);
  for (let i = 0; i < 65; i += 1) await send(alice, roomId, `${i}`);
  const expected = Array.from({ length: 65 }, (_, i) => `${i}`);
  const events = await readBack(bob, roomId, 7);
  assert.equal(new Set(events.map((event) => event.event_id)).size, events.length, "an event came twice");
  assert.equal(events[0].type, "m.room.create");
  assert.deepEqual(numbers(events), expected);

  // And forwards from the very start.
  const forwards = [];
  let from = null;
  do {
    const { chunk, end } = await bob.createMessagesRequest(roomId, from, 10, "f");
    forwards.push(...chunk);
    from = chunk.length ? end : undefined;
  } while (from);
  assert.deepEqual(
    forwards.map((event) => event.event_id),
    events.map((event) => event.event_id),
  );
});

test("a client scrolls back through its timeline until the room was made", async () => {
  const roomId = await roomOf(alice, [bob]);
  for (let i = 0; i < 30; i += 1) await send(alice, roomId, `${i}`);
  const late = await newClient("late", { sync: { initialSyncLimit: 4 } });
  await alice.invite(roomId, late.getUserId());
  await until(late, "the invitation", () => late.getRoom(roomId)?.getMyMembership() === "invite");
  await late.joinRoom(roomId);
  await until(late, "joined", () => late.getRoom(roomId).getMyMembership() === "join" && liveEvents(late, roomId).length > 0);
  const timeline = late.getRoom(roomId).getLiveTimeline();
  for (let page = 0; page < 50; page += 1) {
    if (!(await late.paginateEventTimeline(timeline, { backwards: true, limit: 9 }))) break;
  }
  assert.equal(timeline.getEvents()[0].getType(), "m.room.create");
  assert.deepEqual(liveBodies(late, roomId), Array.from({ length: 30 }, (_, i) => `${i}`));
});

test("an old message is opened in its surroundings and read on from there in both directions", async () => {
  const roomId = await roomOf(alice, [bob]);
  const ids = [];
  for (let i = 0; i < 40; i += 1) ids.push(await send(alice, roomId, `${i}`));
  const stranded = await newClientIn(roomId);
  const set = stranded.getRoom(roomId).getUnfilteredTimelineSet();
  const timeline = await stranded.getEventTimeline(set, ids[10]);
  assert.ok(timeline.getEvents().some((event) => event.getId() === ids[10]));
  await stranded.paginateEventTimeline(timeline, { backwards: true, limit: 5 });
  await stranded.paginateEventTimeline(timeline, { backwards: false, limit: 5 });
  const bodies = timeline.getEvents().filter((event) => event.getType() === "m.room.message").map((event) => Number(event.getContent().body));
  assert.ok(bodies.length >= 11 && bodies.includes(10));
  assert.deepEqual(bodies, Array.from({ length: bodies.length }, (_, i) => bodies[0] + i));
});

async function newClientIn(roomId) {
  const client = await newClient("stranded", { sync: { initialSyncLimit: 2 } });
  await alice.invite(roomId, client.getUserId());
  await until(client, "the invitation", () => client.getRoom(roomId)?.getMyMembership() === "invite");
  await client.joinRoom(roomId);
  await until(client, "joined", () => client.getRoom(roomId).getMyMembership() === "join");
  return client;
}

test("a filter on /messages picks types and senders", async () => {
  const roomId = await roomOf(alice, [bob]);
  await send(alice, roomId, "a");
  await send(bob, roomId, "b");
  const read = async (filter) => {
    const query = new URLSearchParams({ dir: "b", limit: "50", filter: JSON.stringify(filter) });
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/messages?${query}`;
    return (await request("GET", path, { token: bob.getAccessToken() })).body.chunk;
  };
  assert.deepEqual((await read({ types: ["m.room.message"] })).map((event) => event.content.body), ["b", "a"]);
  assert.deepEqual(
    (await read({ types: ["m.room.message"], senders: [alice.getUserId()] })).map((event) => event.content.body),
    ["a"],
  );
  assert.deepEqual((await read({ not_types: ["*"] })).length, 0);
});

test("an event that is too large, not an object, or not JSON is refused and changes nothing", async () => {
  const roomId = await roomOf(alice, [bob]);
  const put = (options) =>
    request("PUT", `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${freshName("txn")}`, {
      token: alice.getAccessToken(),
      ...options,
    });
  const outcome = async (options) => {
    const { status, body } = await put(options);
    return [status, body.errcode];
  };
  assert.deepEqual(await outcome({ json: { msgtype: "m.text", body: "x".repeat(70_000) } }), [413, "M_TOO_LARGE"]);
  assert.deepEqual(await outcome({ body: "{nonsense" }), [400, "M_NOT_JSON"]);
  assert.equal((await outcome({ json: ["a", "list"] }))[0], 400);
  assert.deepEqual(numbers(await readBack(alice, roomId, 50)), []);
});

test("an ignored user's messages do not arrive", async () => {
  const roomId = await roomOf(alice, [bob]);
  const carol = await newClient("carol");
  await alice.invite(roomId, carol.getUserId());
  await until(carol, "the invitation", () => carol.getRoom(roomId)?.getMyMembership() === "invite");
  await carol.joinRoom(roomId);
  await carol.setIgnoredUsers([bob.getUserId()]);
  await until(carol, "the list", () => carol.isUserIgnored(bob.getUserId()));
  const hidden = await send(bob, roomId, "can you hear me");
  const shown = await send(alice, roomId, "she cannot");
  await untilEvent(carol, roomId, shown);
  assert.equal(carol.getRoom(roomId).findEventById(hidden), undefined);
  assert.deepEqual(numbers(await readBack(carol, roomId, 50)), ["she cannot"]);
});
