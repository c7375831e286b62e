// Simplified sliding sync (MSC4186), as matrix-js-sdk asks for it: rooms, messages, invitations, encryption,
// receipts and typing, all without /v3/sync.
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { before } from "node:test";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { baseUrl } from "../support/environment.js";
import { clientOf, liveBodies, login, newClient, register, roomOf, start, until, untilEvent, untilMembership } from "../support/user.js";

const STATE = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.topic", ""],
  ["m.room.encryption", ""],
  ["m.room.power_levels", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
];

let alice;

before(async () => {
  alice = await newClient("alice", { encrypted: true });
});

/** Starts a client that uses sliding sync. */
async function startSliding(account, { encrypted = false } = {}) {
  const client = clientOf(account);
  if (encrypted) await client.initRustCrypto({ useIndexedDB: false });
  const list = { ranges: [[0, 20]], timeline_limit: 20, required_state: STATE, filters: {} };
  const subscription = { timeline_limit: 20, required_state: STATE };
  const slidingSync = new SlidingSync(baseUrl, new Map([["all", list]]), subscription, client, 20_000);
  await start(client, { slidingSync });
  return client;
}

test("a client with sliding sync has its rooms, and hears what is said", async () => {
  const account = await register("slider");
  const first = await start(clientOf(account));
  const roomId = await roomOf(alice, [first], { name: "The slide", topic: "Down" });
  const said = (await alice.sendTextMessage(roomId, "before")).event_id;
  await untilEvent(first, roomId, said);

  const slider = await startSliding(await login(account));
  const room = await untilMembership(slider, roomId, "join");
  await untilEvent(slider, roomId, said);
  assert.equal(room.name, "The slide");
  const { event_id: later } = await alice.sendTextMessage(roomId, "after");
  await untilEvent(slider, roomId, later);
  const { event_id: own } = await slider.sendTextMessage(roomId, "mine");
  await untilEvent(slider, roomId, own);
  await untilEvent(alice, roomId, own);
  assert.deepEqual(liveBodies(slider, roomId).slice(-3), ["before", "after", "mine"]);
  await alice.setRoomName(roomId, "The slope");
  await until(slider, "the new name", () => slider.getRoom(roomId).name === "The slope");
});

test("an invitation slides in, is accepted, and the room is left", async () => {
  const slider = await startSliding(await register("guest"));
  const { room_id: roomId } = await alice.createRoom({ name: "Come in", invite: [slider.getUserId()] });
  await untilMembership(slider, roomId, "invite");
  await slider.joinRoom(roomId);
  await untilMembership(slider, roomId, "join");
  const { event_id: eventId } = await alice.sendTextMessage(roomId, "welcome");
  await untilEvent(slider, roomId, eventId);
  await slider.leave(roomId);
  await untilMembership(slider, roomId, "leave");
});

test("receipts, typing and account data come with sliding sync", async () => {
  const slider = await startSliding(await register("listener"));
  const { room_id: roomId } = await alice.createRoom({ invite: [slider.getUserId()] });
  await untilMembership(slider, roomId, "invite");
  await slider.joinRoom(roomId);
  const { event_id: eventId } = await slider.sendTextMessage(roomId, "read me");
  const event = await untilEvent(alice, roomId, eventId);
  await untilEvent(slider, roomId, eventId);
  // Noted as the server sends it: the client itself would mix in its own guesses.
  const readers = new Set();
  slider.on("Room.receipt", (receipt) => {
    for (const reader of Object.keys(receipt.getContent()[eventId]?.["m.read"] ?? {})) readers.add(reader);
  });
  await alice.sendReadReceipt(event);
  await until(slider, "alice's receipt", () => readers.has(alice.getUserId()));
  await alice.sendTyping(roomId, true, 20_000);
  await until(slider, "alice typing", () => slider.getRoom(roomId).getMember(alice.getUserId())?.typing);
  await slider.setAccountDataRaw("org.example.slope", { steep: true });
  await until(slider, "account data", () => slider.getAccountData("org.example.slope")?.getContent().steep);
});

test("an encrypted room is read with sliding sync", async () => {
  const slider = await startSliding(await register("whisperer"), { encrypted: true });
  const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
  const { room_id: roomId } = await alice.createRoom({ invite: [slider.getUserId()], initial_state: [encryption] });
  await untilMembership(slider, roomId, "invite");
  await slider.joinRoom(roomId);
  await until(alice, "the guest in the room", () => alice.getRoom(roomId)?.getMember(slider.getUserId())?.membership === "join");
  const { event_id: eventId } = await alice.sendTextMessage(roomId, "psst");
  const event = await untilEvent(slider, roomId, eventId);
  assert.equal(event.getWireType(), "m.room.encrypted");
  await until(slider, "the message decrypted", () => event.getContent().body === "psst");
  const { event_id: answerId } = await slider.sendTextMessage(roomId, "heard");
  const answer = await untilEvent(alice, roomId, answerId);
  await until(alice, "the answer decrypted", () => answer.getContent().body === "heard");
});
