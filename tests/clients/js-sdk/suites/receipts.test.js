// Receipts, unread counts, typing and read markers (client-server API, "Receipts", "Typing notifications").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { before } from "node:test";
import { newClient, roomOf, sendInThread, until, untilEvent } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = notingReceipts(await newClient("alice"));
  bob = await newClient("bob");
});

const send = async (client, roomId, body) => (await client.sendTextMessage(roomId, body)).event_id;

const unread = (client, roomId, type = "total") => client.getRoom(roomId).getRoomUnreadNotificationCount(type);

/** Notes every receipt that the server sends to `client`: the client itself would mix in its own guesses. */
function notingReceipts(client) {
  client.receipts = [];
  client.on("Room.receipt", (event, room) => {
    for (const [eventId, byType] of Object.entries(event.getContent())) {
      for (const [type, byUser] of Object.entries(byType)) {
        for (const [userId, { thread_id: thread }] of Object.entries(byUser)) {
          client.receipts.push({ roomId: room.roomId, eventId, type, userId, thread });
        }
      }
    }
  });
  return client;
}

/** The event that `client` was last told `userId` has read up to. */
function receiptOf(client, roomId, userId, type, thread) {
  const matches = (receipt) =>
    receipt.roomId === roomId && receipt.userId === userId && receipt.type === type && receipt.thread === thread;
  return client.receipts.findLast(matches)?.eventId;
}

test("messages count as unread until they are read", async () => {
  const roomId = await roomOf(alice, [bob]);
  await send(alice, roomId, "one");
  await send(alice, roomId, `two for ${bob.getUserId()}`);
  const { event_id: last } = await alice.sendMessage(roomId, {
    msgtype: "m.text",
    body: "three",
    "m.mentions": { user_ids: [bob.getUserId()] },
  });
  await until(bob, "three unread", () => unread(bob, roomId) === 3 && unread(bob, roomId, "highlight") >= 1);
  await bob.sendReadReceipt(await untilEvent(bob, roomId, last));
  await until(bob, "nothing unread", () => unread(bob, roomId) === 0 && unread(bob, roomId, "highlight") === 0);
  await send(alice, roomId, "four");
  await until(bob, "one unread", () => unread(bob, roomId) === 1);
  assert.equal(unread(alice, roomId), 0, "one's own messages are not unread");
});

test("a public receipt is seen by the others, a private one only by oneself", async () => {
  const roomId = await roomOf(alice, [bob]);
  const first = await send(alice, roomId, "first");
  await bob.sendReadReceipt(await untilEvent(bob, roomId, first));
  await until(alice, "the public receipt", () => receiptOf(alice, roomId, bob.getUserId(), "m.read", "main") === first);

  const second = await send(alice, roomId, "second");
  await bob.sendReadReceipt(await untilEvent(bob, roomId, second), "m.read.private");
  await until(bob, "nothing unread", () => unread(bob, roomId) === 0);
  // Something later arrives at alice, so the private receipt would have been there by then.
  const third = await send(bob, roomId, "third");
  await untilEvent(alice, roomId, third);
  assert.ok(alice.receipts.every((receipt) => receipt.eventId !== second && receipt.type !== "m.read.private"));
});

test("a thread is unread by itself and read by itself", async () => {
  const roomId = await roomOf(alice, [bob]);
  const root = await send(bob, roomId, "root");
  await untilEvent(alice, roomId, root);
  await sendInThread(alice, roomId, root, "in the thread");
  const second = await sendInThread(alice, roomId, root, "again");
  const main = await send(alice, roomId, "in the room");

  const room = bob.getRoom(roomId);
  await until(bob, "one unread in the room and two in the thread", () =>
    unread(bob, roomId) === 1 && room.getThreadUnreadNotificationCount(root, "total") === 2);

  await bob.sendReadReceipt(await untilEvent(bob, roomId, main));
  await until(bob, "the room read", () => unread(bob, roomId) === 0);
  assert.equal(room.getThreadUnreadNotificationCount(root, "total"), 2);

  const threaded = await until(bob, "the threaded event", () => room.getThread(root)?.findEventById(second));
  await bob.sendReadReceipt(threaded);
  await until(bob, "the thread read", () => room.getThreadUnreadNotificationCount(root, "total") === 0);
  await until(alice, "the threaded receipt", () => receiptOf(alice, roomId, bob.getUserId(), "m.read", root) === second);
});

test("an unthreaded receipt reads the threads too", async () => {
  const roomId = await roomOf(alice, [bob]);
  const root = await send(bob, roomId, "root");
  await sendInThread(alice, roomId, root, "in the thread");
  const last = await send(alice, roomId, "in the room");
  const room = bob.getRoom(roomId);
  await until(bob, "both unread", () => unread(bob, roomId) === 1 && room.getThreadUnreadNotificationCount(root, "total") === 1);
  await bob.sendReadReceipt(await untilEvent(bob, roomId, last), "m.read", true);
  await until(bob, "both read", () => unread(bob, roomId) === 0 && room.getThreadUnreadNotificationCount(root, "total") === 0);
});

test("the read marker moves with its receipt", async () => {
  const roomId = await roomOf(alice, [bob]);
  const eventId = await send(alice, roomId, "read me");
  const event = await untilEvent(bob, roomId, eventId);
  await bob.setRoomReadMarkers(roomId, eventId, event);
  await until(bob, "the marker", () => bob.getRoom(roomId).getAccountData("m.fully_read")?.getContent().event_id === eventId);
  await until(alice, "the receipt", () => receiptOf(alice, roomId, bob.getUserId(), "m.read", undefined) === eventId);
});

test("typing is seen by the others, ends when stopped, and ends by itself", async () => {
  const roomId = await roomOf(alice, [bob]);
  const typing = () => bob.getRoom(roomId).getMember(alice.getUserId()).typing;
  await alice.sendTyping(roomId, true, 20_000);
  await until(bob, "typing", typing);
  await alice.sendTyping(roomId, false, 0);
  await until(bob, "the end of typing", () => !typing());
  await alice.sendTyping(roomId, true, 1_000);
  await until(bob, "typing again", typing);
  await until(bob, "typing timed out", () => !typing());
});

test("presence with its status is seen by those who share a room", async () => {
  await roomOf(alice, [bob]);
  await alice.setPresence({ presence: "unavailable", status_msg: "cooking" });
  await until(bob, "the status", () => {
    const user = bob.getUser(alice.getUserId());
    return user?.presence === "unavailable" && user.presenceStatusMsg === "cooking";
  });
  assert.equal((await bob.getPresence(alice.getUserId())).status_msg, "cooking");
});

test("a muted room counts nothing but mentions", async () => {
  const roomId = await roomOf(alice, [bob]);
  await bob.addPushRule("global", "room", roomId, { actions: ["dont_notify"] });
  await send(alice, roomId, "quiet");
  const { event_id: loud } = await alice.sendMessage(roomId, {
    msgtype: "m.text",
    body: "loud",
    "m.mentions": { user_ids: [bob.getUserId()] },
  });
  await untilEvent(bob, roomId, loud);
  await until(bob, "the mention alone", () => unread(bob, roomId) === 1 && unread(bob, roomId, "highlight") === 1);
});
