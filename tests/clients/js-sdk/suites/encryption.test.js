// End-to-end encryption with the SDK's Rust crypto: rooms, cross-signing, secret storage, key backup and
// verification (client-server API, "End-to-End Encryption", "Secrets").
import { test } from "../support/suite.js";
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { before } from "node:test";
import { CryptoEvent, VerificationPhase, VerifierEvent, VerificationRequestEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { request } from "../support/exchanges.js";
import { clientOf, freshName, login, newClient, passwordAuth, register, roomOf, start, stop, until, untilEvent, untilMembership, withPassword } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice", { encrypted: true });
  bob = await newClient("bob", { encrypted: true });
});

const ENCRYPTION = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

const encryptedRoom = async (creator, members, options = {}) => {
  const roomId = await roomOf(creator, members, { initial_state: [ENCRYPTION], ...options });
  for (const client of [creator, ...members]) {
    await until(client, "encryption", () => client.getRoom(roomId)?.hasEncryptionStateEvent());
  }
  return roomId;
};

const send = async (client, roomId, body) => (await client.sendTextMessage(roomId, body)).event_id;

/** Waits until `client` reads `body` in the event. */
async function untilRead(client, roomId, eventId, body) {
  const event = await untilEvent(client, roomId, eventId);
  await until(client, `"${body}" in ${eventId} (now: ${event.decryptionFailureReason})`, () => {
    return !event.isDecryptionFailure() && event.getContent().body === body;
  });
  assert.equal(event.getWireType(), "m.room.encrypted");
  return event;
}

/** A client with Rust crypto on a device of `account`. */
async function encryptedClient(account, options = {}) {
  const client = clientOf(account, options);
  await client.initRustCrypto({ useIndexedDB: false });
  return start(client);
}

/** Cross-signing for a client whose user has none yet. */
const bootstrapCrossSigning = (client) =>
  client.getCrypto().bootstrapCrossSigning({
    setupNewCrossSigning: true,
    authUploadDeviceSigningKeys: (makeRequest) => withPassword(client.account, makeRequest),
  });

/** Secret storage callbacks that keep the key in `holder`. */
const keeping = (holder) => ({
  getSecretStorageKey: async ({ keys }) => {
    const [id] = Object.keys(keys);
    return holder.key ? [id, holder.key] : null;
  },
  cacheSecretStorageKey: (_id, _info, key) => {
    holder.key = key;
  },
});

test("both sides of an encrypted room read each other, and the server does not", async () => {
  const roomId = await encryptedRoom(alice, [bob]);
  const question = await send(alice, roomId, "do you read me?");
  await untilRead(bob, roomId, question, "do you read me?");
  const answer = await send(bob, roomId, "loud and clear");
  await untilRead(alice, roomId, answer, "loud and clear");
  const stored = await alice.fetchRoomEvent(roomId, question);
  assert.equal(stored.type, "m.room.encrypted");
  assert.ok(!JSON.stringify(stored).includes("do you read me?"));
});

test("edits, reactions and redactions work in an encrypted room", async () => {
  const roomId = await encryptedRoom(alice, [bob]);
  const original = await send(alice, roomId, "frist");
  await untilRead(bob, roomId, original, "frist");
  await alice.sendMessage(roomId, {
    msgtype: "m.text",
    body: "* first",
    "m.new_content": { msgtype: "m.text", body: "first" },
    "m.relates_to": { rel_type: "m.replace", event_id: original },
  });
  await until(bob, "the edit", () => bob.getRoom(roomId).findEventById(original).getContent().body === "first");
  const { event_id: reaction } = await bob.sendEvent(roomId, "m.reaction", {
    "m.relates_to": { rel_type: "m.annotation", event_id: original, key: "👍" },
  });
  await untilEvent(alice, roomId, reaction);
  await alice.redactEvent(roomId, original);
  const event = bob.getRoom(roomId).findEventById(original);
  await until(bob, "the redaction", () => event.isRedacted());
});

test("a device that logs in later reads what is said from then on", async () => {
  const roomId = await encryptedRoom(alice, [bob]);
  await untilRead(bob, roomId, await send(alice, roomId, "before"), "before");
  const second = await encryptedClient(await login(bob.account));
  // Alice learns of the device from the device list that her sync says has changed.
  await until(alice, "bob's new device", async () => {
    const devices = (await alice.getCrypto().getUserDeviceInfo([bob.getUserId()])).get(bob.getUserId());
    return devices?.has(second.getDeviceId());
  });
  const eventId = await send(alice, roomId, "after");
  await untilRead(bob, roomId, eventId, "after");
  await untilRead(second, roomId, eventId, "after");
});

test("a device that logged out is gone from the others' lists", async () => {
  await encryptedRoom(alice, [bob]);
  const second = await encryptedClient(await login(bob.account));
  const devices = async () => (await alice.getCrypto().getUserDeviceInfo([bob.getUserId()])).get(bob.getUserId());
  const id = second.getDeviceId();
  await until(alice, "bob's new device", async () => (await devices())?.has(id));
  await second.logout(true);
  await until(alice, "the device gone", async () => !(await devices()).has(id));
});

test("a member who joins later is sent the keys of what follows", async () => {
  const carol = await newClient("carol", { encrypted: true });
  const roomId = await encryptedRoom(alice, [bob]);
  await untilRead(bob, roomId, await send(alice, roomId, "two of us"), "two of us");
  await alice.invite(roomId, carol.getUserId());
  await untilMembership(carol, roomId, "invite");
  await carol.joinRoom(roomId);
  await until(alice, "carol", () => alice.getRoom(roomId).getMember(carol.getUserId())?.membership === "join");
  const eventId = await send(alice, roomId, "three of us");
  await untilRead(carol, roomId, eventId, "three of us");
});

test("one-time keys are claimed once each, and then the fallback key serves", async () => {
  const target = await newClient("claimed", { encrypted: true });
  const counts = async () => (await target.uploadKeysRequest({})).one_time_key_counts.signed_curve25519;
  await until(target, "fifty one-time keys", async () => (await counts()) >= 50);
  const device = [target.getUserId(), target.getDeviceId()];
  stop(target);
  const claimed = [];
  for (let i = 0; i < 55; i += 1) {
    const { one_time_keys: keys } = await alice.claimOneTimeKeys([device], "signed_curve25519");
    claimed.push(Object.entries(keys[target.getUserId()][target.getDeviceId()])[0]);
  }
  const once = claimed.filter(([, key]) => !key.fallback).map(([id]) => id);
  assert.equal(new Set(once).size, once.length, "a key was given out twice");
  assert.ok(once.length >= 50);
  assert.equal(claimed.at(-1)[1].fallback, true);
});

test("cross-signing is set up without a password, and replaced only with it", async () => {
  const account = await register("signer");
  const signer = await encryptedClient(account);
  const replace = (authUploadDeviceSigningKeys) =>
    signer.getCrypto().bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys });
  await replace((makeRequest) => makeRequest(null));
  assert.equal(await signer.getCrypto().isCrossSigningReady(), true);
  const masterKey = async () => (await alice.getCrypto().getUserCrossSigningKeys(account.userId))?.master_key;
  await encryptedRoom(alice, [signer]);
  const before = await until(alice, "the master key", masterKey);

  const wrong = (makeRequest) => makeRequest({ ...passwordAuth(account), password: "wrong" });
  const refusal = await replace(wrong).catch((error) => error);
  assert.deepEqual([refusal.httpStatus, refusal.data?.errcode], [401, "M_FORBIDDEN"]);
  await replace((makeRequest) => withPassword(account, makeRequest));
  const changed = await until(alice, "another master key", async () => {
    const key = await masterKey();
    return JSON.stringify(key?.keys) !== JSON.stringify(before.keys) && key;
  });
  assert.notDeepEqual(changed.keys, before.keys);
});

test("the others see which devices their owner has signed", async () => {
  const account = await register("signed");
  const signer = await encryptedClient(account);
  await bootstrapCrossSigning(signer);
  await encryptedRoom(alice, [signer]);
  assert.equal(await alice.getCrypto().userHasCrossSigningKeys(account.userId, true), true);
  const statusOf = (client) => alice.getCrypto().getDeviceVerificationStatus(account.userId, client.getDeviceId());
  await until(alice, "the signed device", async () => (await statusOf(signer))?.signedByOwner);
  const other = await encryptedClient(await login(account));
  assert.equal((await until(alice, "the second device", () => statusOf(other))).signedByOwner, false);
});

test("a new device gets the secrets by its recovery key and the history from the key backup", async () => {
  const account = await register("backup");
  const holder = {};
  const first = await encryptedClient(account, { cryptoCallbacks: keeping(holder) });
  const roomId = await encryptedRoom(first, [alice]);
  await bootstrapCrossSigning(first);
  let recoveryKey;
  await first.getCrypto().bootstrapSecretStorage({
    createSecretStorageKey: async () => {
      recoveryKey = await first.getCrypto().createRecoveryKeyFromPassphrase();
      return recoveryKey;
    },
    setupNewSecretStorage: true,
    setupNewKeyBackup: true,
  });
  assert.equal(await first.getCrypto().isSecretStorageReady(), true);

  const mine = await send(first, roomId, "from before");
  const theirs = await send(alice, roomId, "from the other side");
  await untilRead(first, roomId, theirs, "from the other side");
  const backup = async () => (await request("GET", "/_matrix/client/v3/room_keys/version", { token: first.getAccessToken() })).body;
  await until(first, "two sessions in the backup", async () => (await backup()).count >= 2);
  const { version, etag } = await backup();
  assert.ok(version && etag);
  // Nobody can ask this device for keys any more.
  await first.logout(true);

  const second = await encryptedClient(await login(account), { cryptoCallbacks: keeping({ key: recoveryKey.privateKey }) });
  const event = await until(second, "the old message", () => second.getRoom(roomId)?.findEventById(mine));
  await until(second, "that it cannot be read", () => event.isDecryptionFailure());
  const crypto = second.getCrypto();
  await until(second, "one's own public keys", () => crypto.userHasCrossSigningKeys(account.userId, true));
  await crypto.bootstrapCrossSigning({});
  await until(second, "itself cross-signed", async () =>
    (await crypto.getDeviceVerificationStatus(account.userId, second.getDeviceId()))?.crossSigningVerified);
  await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
  await crypto.checkKeyBackupAndEnable();
  const restored = await crypto.restoreKeyBackup();
  assert.ok(restored.imported >= 2, JSON.stringify(restored));
  await untilRead(second, roomId, mine, "from before");
  await untilRead(second, roomId, theirs, "from the other side");

  await crypto.deleteKeyBackupVersion(version);
  assert.equal(await crypto.getKeyBackupInfo(), null);
});

/** Both sides compare the short codes of a verification that `asking` has requested and `asked` has received. */
async function compareCodes(asking, asked) {
  await asked.accept();
  await phase(asking, VerificationPhase.Ready);
  const verifier = await asking.startVerification("m.sas.v1");
  await phase(asked, VerificationPhase.Started);
  const shown = (one) =>
    one.getShowSasCallbacks() ?? new Promise((resolve) => one.once(VerifierEvent.ShowSas, resolve));
  const other = asked.verifier;
  const done = Promise.all([verifier.verify(), other.verify()]);
  const [left, right] = await Promise.all([shown(verifier), shown(other)]);
  assert.deepEqual(left.sas.decimal, right.sas.decimal);
  assert.deepEqual(left.sas.emoji, right.sas.emoji);
  await Promise.all([left.confirm(), right.confirm()]);
  await done;
  await Promise.all([phase(asking, VerificationPhase.Done), phase(asked, VerificationPhase.Done)]);
}

function phase(verification, wanted) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (verification.phase === wanted) settle(resolve);
      else if (verification.phase === VerificationPhase.Cancelled) settle(reject, new Error(`cancelled: ${verification.cancellationCode}`));
    };
    const settle = (how, value) => {
      clearTimeout(timer);
      verification.off(VerificationRequestEvent.Change, look);
      how(value);
    };
    const timer = setTimeout(() => settle(reject, new Error(`phase ${verification.phase}, waited for ${wanted}`)), 20_000);
    verification.on(VerificationRequestEvent.Change, look);
    look();
  });
}

const nextRequest = (client) => new Promise((resolve) => client.once(CryptoEvent.VerificationRequestReceived, resolve));

test("two devices of a user verify each other by comparing codes", async () => {
  const account = await register("sas");
  const first = await encryptedClient(account);
  await bootstrapCrossSigning(first);
  const second = await encryptedClient(await login(account));
  await until(first, "the second device", () => first.getCrypto().getDeviceVerificationStatus(account.userId, second.getDeviceId()));
  const received = nextRequest(first);
  const asking = await second.getCrypto().requestOwnUserVerification();
  await compareCodes(asking, await received);

  const verified = async (by) => (await by.getCrypto().getDeviceVerificationStatus(account.userId, second.getDeviceId()))?.crossSigningVerified;
  await until(first, "the second device verified", () => verified(first));
  await until(second, "itself verified", () => verified(second));
  // The secrets follow by themselves, from device to device.
  await until(second, "the private keys", async () => {
    const { privateKeysCachedLocally: keys } = await second.getCrypto().getCrossSigningStatus();
    return keys.masterKey && keys.selfSigningKey && keys.userSigningKey;
  });
});

test("two users verify each other in their room", async () => {
  const left = await newClient("left", { encrypted: true });
  const right = await newClient("right", { encrypted: true });
  await bootstrapCrossSigning(left);
  await bootstrapCrossSigning(right);
  const roomId = await encryptedRoom(left, [right]);
  await left.getCrypto().userHasCrossSigningKeys(right.getUserId(), true);
  await right.getCrypto().userHasCrossSigningKeys(left.getUserId(), true);
  const received = nextRequest(right);
  const asking = await left.getCrypto().requestVerificationDM(right.getUserId(), roomId);
  await compareCodes(asking, await received);
  const verified = async (by, whom) => (await by.getCrypto().getUserVerificationStatus(whom.getUserId())).isCrossSigningVerified();
  await until(left, "right verified", () => verified(left, right));
  await until(right, "left verified", () => verified(right, left));
});

test("a device that was closed and opened again goes on with its keys", async () => {
  const account = await register("restarted");
  const cryptoDatabasePrefix = freshName("crypto");
  const open = async () => {
    const client = clientOf(account);
    await client.initRustCrypto({ cryptoDatabasePrefix });
    return start(client);
  };
  const first = await open();
  const identity = await first.getCrypto().getOwnDeviceKeys();
  const roomId = await encryptedRoom(alice, [first]);
  const eventId = await send(alice, roomId, "remember me");
  await untilRead(first, roomId, eventId, "remember me");
  stop(first);
  const missed = await send(alice, roomId, "while you were out");

  const again = await open();
  assert.deepEqual(await again.getCrypto().getOwnDeviceKeys(), identity);
  await untilRead(again, roomId, eventId, "remember me");
  await untilRead(again, roomId, missed, "while you were out");
});
