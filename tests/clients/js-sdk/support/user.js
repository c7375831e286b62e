// Users and their devices: registering, logging in, starting a client, and waiting until it has seen something.
//
// Nothing here sleeps: a wait looks again whenever the client says that something happened, and gives up
// after a time. Every client made is stopped by `stopAll`.
import { createHmac, randomBytes } from "node:crypto";
import { baseUrl, registrationToken, sharedSecret } from "./environment.js";
import { describeExchanges, recordingFetch, request } from "./exchanges.js";
import * as sdk from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { logger } from "matrix-js-sdk/lib/logger.js";

// What a failing test needs to know is in the exchanges; the SDK's own account of them would drown it.
const nothing = () => {};
const silent = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing, getChild: () => silent };
logger.methodFactory = () => nothing;
logger.rebuild();

/** How long a client may take to see what another did. */
export const PATIENCE_MS = 20_000;

// Whatever a client can tell of: after each of these a waiting condition is looked at again.
const TIDINGS = [
  ...Object.values(sdk.ClientEvent),
  ...Object.values(sdk.RoomEvent),
  ...Object.values(sdk.RoomMemberEvent),
  ...Object.values(sdk.RoomStateEvent),
  ...Object.values(sdk.MatrixEventEvent),
  ...Object.values(sdk.UserEvent),
  ...Object.values(sdk.ThreadEvent),
  ...Object.values(CryptoEvent),
];

const open = new Set();
const run = randomBytes(4).toString("hex");
let counter = 0;

/** A user name that no other run or test uses. */
export function freshName(name) {
  counter += 1;
  return `${name}-${run}-${process.pid}-${counter}`;
}

/** Auth for a request that asked for interactive authentication with the given 401 body. */
export function passwordAuth(account, challenge) {
  return {
    type: "m.login.password",
    identifier: { type: "m.id.user", user: account.userId },
    password: account.password,
    session: challenge?.session,
  };
}

/** Calls `attempt(auth)`, first without auth; answers the server's challenge with the account's password. */
export async function withPassword(account, attempt) {
  try {
    return await attempt(null);
  } catch (error) {
    if (error.httpStatus !== 401 || !error.data?.flows) throw error;
    return attempt(passwordAuth(account, error.data));
  }
}

async function registerWithSecret(username, password) {
  const path = "/_synapse/admin/v1/register";
  const { nonce } = (await request("GET", path)).body;
  const mac = createHmac("sha1", sharedSecret).update([nonce, username, password, "notadmin"].join("\0")).digest("hex");
  return (await request("POST", path, { json: { nonce, username, password, mac, admin: false } })).body;
}

async function registerInteractively(username, password) {
  const client = unattachedClient(username);
  const wanted = { username, password, initial_device_display_name: `${username}'s device` };
  let challenge;
  try {
    return await client.registerRequest(wanted);
  } catch (error) {
    if (error.httpStatus !== 401) throw error;
    challenge = error.data;
  }
  const auth = registrationToken
    ? { type: "m.login.registration_token", token: registrationToken, session: challenge.session }
    : { type: "m.login.dummy", session: challenge.session };
  try {
    return await client.registerRequest({ ...wanted, auth });
  } catch (error) {
    // With a token there may be a second stage, which has nothing to fill in.
    if (error.httpStatus !== 401 || !error.data?.completed?.length) throw error;
    return client.registerRequest({ ...wanted, auth: { type: "m.login.dummy", session: challenge.session } });
  }
}

/** A client without an account, for what needs no token. */
export function unattachedClient(name = "nobody") {
  return sdk.createClient({ baseUrl, fetchFn: recordingFetch(name), logger: silent });
}

/** Registers a new user: `{ userId, deviceId, accessToken, password, localpart }`. */
export async function register(name) {
  const localpart = freshName(name);
  const password = `${localpart} and a horse`;
  const answer = sharedSecret
    ? await registerWithSecret(localpart, password)
    : await registerInteractively(localpart, password);
  return { userId: answer.user_id, deviceId: answer.device_id, accessToken: answer.access_token, password, localpart };
}

/** Logs the account in on a new device. */
export async function login(account) {
  const answer = await unattachedClient(account.localpart).loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: account.localpart },
    password: account.password,
  });
  return { ...account, deviceId: answer.device_id, accessToken: answer.access_token };
}

/** A client for a logged-in account, not yet syncing. `options` go to the SDK. */
export function clientOf(account, options = {}) {
  const client = sdk.createClient({
    baseUrl,
    fetchFn: recordingFetch(`${account.localpart}/${account.deviceId}`),
    userId: account.userId,
    deviceId: account.deviceId,
    accessToken: account.accessToken,
    timelineSupport: true,
    disableVoip: true,
    logger: silent,
    ...options,
  });
  client.account = account;
  client.setMaxListeners?.(200);
  open.add(client);
  return client;
}

/** Starts syncing and waits for the first answer. `options` go to `startClient`. */
export async function start(client, options = {}) {
  const prepared = new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`${client.getUserId()} had no first sync\n${describeExchanges()}`)),
      PATIENCE_MS,
    );
    const listen = (state, _before, data) => {
      if (state === sdk.SyncState.Prepared && !data?.fromCache) {
        clearTimeout(timer);
        client.off(sdk.ClientEvent.Sync, listen);
        resolve();
      }
    };
    client.on(sdk.ClientEvent.Sync, listen);
  });
  await client.startClient({ initialSyncLimit: 20, threadSupport: true, ...options });
  await prepared;
  return client;
}

/** Registers a user and starts a client: the common case. */
export async function newClient(name, { encrypted = false, create = {}, sync = {} } = {}) {
  const client = clientOf(await register(name), create);
  if (encrypted) await client.initRustCrypto({ useIndexedDB: false });
  return start(client, sync);
}

/** Stops a client and lets go of what it holds. */
export function stop(client) {
  open.delete(client);
  client.stopClient();
  client.removeAllListeners();
}

/** Stops every client that is still running: for `after`. */
export function stopAll() {
  for (const client of open) stop(client);
}

/** Waits until `condition()` answers something other than false, null and undefined, and answers that. */
export function until(client, what, condition, patienceMs = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    let looking = false;
    let again = false;
    let over = false;
    const finish = (settle, value) => {
      over = true;
      clearTimeout(timer);
      for (const tiding of TIDINGS) client.off(tiding, look);
      settle(value);
    };
    const look = async () => {
      again = true;
      if (looking) return;
      looking = true;
      while (again && !over) {
        again = false;
        try {
          const value = await condition();
          if (!over && value !== false && value !== null && value !== undefined) return finish(resolve, value);
        } catch (error) {
          if (!over) return finish(reject, error);
        }
      }
      looking = false;
    };
    const timer = setTimeout(
      () => finish(reject, new Error(`${client.getUserId()} waited ${patienceMs} ms in vain for ${what}`)),
      patienceMs,
    );
    for (const tiding of TIDINGS) client.on(tiding, look);
    look();
  });
}

/** Waits until `client` has `roomId` with the given membership of its own. */
export function untilMembership(client, roomId, membership) {
  return until(client, `membership "${membership}" in ${roomId}`, () => {
    const room = client.getRoom(roomId);
    return room?.getMyMembership() === membership && room;
  });
}

/** Waits until `client` has the event, wherever in the room it lives, decrypted where that is needed. */
export function untilEvent(client, roomId, eventId) {
  return until(client, `event ${eventId}`, () => {
    const event = client.getRoom(roomId)?.findEventById(eventId);
    if (!event || event.status !== null) return false;
    return event.isBeingDecrypted() ? false : event;
  });
}

/** A room of `creator` that all of `members` were invited to and have joined, known to every one of them. */
export async function roomOf(creator, members, options = {}) {
  const { room_id: roomId } = await creator.createRoom({
    preset: "private_chat",
    invite: members.map((member) => member.getUserId()),
    ...options,
  });
  for (const member of members) {
    await untilMembership(member, roomId, "invite");
    await member.joinRoom(roomId);
  }
  for (const client of [creator, ...members]) {
    await until(client, `${members.length + 1} members in ${roomId}`, () => {
      const room = client.getRoom(roomId);
      return room?.getMyMembership() === "join" && room.getJoinedMemberCount() === members.length + 1;
    });
  }
  return roomId;
}

/**
 * Sends a text into the thread under `root`, past the SDK: where a sync brings the event before the request is
 * answered, the SDK does not find threaded events again and fails its own sending.
 */
export async function sendInThread(client, roomId, root, body) {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${freshName("txn")}`;
  const relation = { rel_type: "m.thread", event_id: root, is_falling_back: true, "m.in_reply_to": { event_id: root } };
  const answer = await request("PUT", path, {
    token: client.getAccessToken(),
    json: { msgtype: "m.text", body, "m.relates_to": relation },
  });
  if (answer.status !== 200) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body.event_id;
}

/** The events of a room's live timeline as the user sees them. */
export function liveEvents(client, roomId) {
  return client.getRoom(roomId).getLiveTimeline().getEvents();
}

/** The bodies of the messages in a room's live timeline. */
export function liveBodies(client, roomId) {
  return liveEvents(client, roomId)
    .filter((event) => event.getType() === "m.room.message")
    .map((event) => event.getContent().body);
}
