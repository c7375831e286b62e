// Accounts, logins, tokens and devices (client-server API, "Client Authentication" and "Client Config").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { refused } from "../support/refusal.js";
import { request } from "../support/exchanges.js";
import {
  clientOf,
  freshName,
  login,
  newClient,
  passwordAuth,
  register,
  start,
  unattachedClient,
  until,
  withPassword,
} from "../support/user.js";

test("the server lists the versions and flows that clients look for first", async () => {
  const client = unattachedClient();
  const { versions } = await client.getVersions();
  // Below v1.11 clients do not use authenticated media.
  assert.ok(versions.includes("v1.11"), `versions: ${versions}`);
  const { flows } = await client.loginFlows();
  assert.ok(flows.some(({ type }) => type === "m.login.password"));
});

test("a registered user is who the token says", async () => {
  const account = await register("alice");
  const client = clientOf(account);
  const answer = await client.whoami();
  assert.equal(answer.user_id, account.userId);
  assert.equal(answer.device_id, account.deviceId);
  assert.equal(account.userId.split(":")[0], `@${account.localpart}`);
  assert.notEqual(answer.is_guest, true);
});

test("registering without a log-in gives no token", async () => {
  const username = freshName("nologin");
  const client = unattachedClient();
  const wanted = { username, password: `${username} secret`, inhibit_login: true };
  const challenge = await client.registerRequest(wanted).catch((error) => error);
  assert.equal(challenge.httpStatus, 401);
  assert.ok(challenge.data.session && challenge.data.flows.length > 0);
  const answer = await client.registerRequest({
    ...wanted,
    auth: { type: challenge.data.flows[0].stages[0], session: challenge.data.session, token: process.env.REGISTRATION_TOKEN },
  });
  assert.equal(answer.access_token, undefined);
  assert.equal(answer.device_id, undefined);
  assert.ok(answer.user_id.startsWith(`@${username}:`));
});

test("a taken or unfit user name is refused", async () => {
  const taken = await register("taken");
  const client = unattachedClient();
  assert.equal(await client.isUsernameAvailable(taken.localpart), false);
  assert.equal(await client.isUsernameAvailable(freshName("free")), true);
  await refused(client.registerRequest({ username: taken.localpart, password: "another secret" }), 400, "M_USER_IN_USE");
  await refused(client.registerRequest({ username: "white space", password: "another secret" }), 400, "M_INVALID_USERNAME");
});

test("a user logs in by user name, by full user id, and again on a device it has", async () => {
  const account = await register("login");
  const byName = await login(account);
  assert.notEqual(byName.deviceId, account.deviceId);
  const byId = await unattachedClient().loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: account.userId },
    password: account.password,
    device_id: byName.deviceId,
  });
  assert.equal(byId.user_id, account.userId);
  assert.equal(byId.device_id, byName.deviceId);
});

test("a wrong password and an unknown user are refused alike", async () => {
  const account = await register("wrong");
  const client = unattachedClient();
  const attempt = (user) => client.loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password: "no" });
  const known = await refused(attempt(account.localpart), 403, "M_FORBIDDEN");
  const unknown = await refused(attempt(freshName("nobody")), 403, "M_FORBIDDEN");
  assert.equal(known.data.error, unknown.data.error);
});

test("a missing and a made-up token are told apart", async () => {
  await refused(unattachedClient().whoami(), 401, "M_MISSING_TOKEN");
  await refused(clientOf({ userId: "@x:y", deviceId: "D", accessToken: "made-up", localpart: "x" }).whoami(), 401, "M_UNKNOWN_TOKEN");
});

test("logging out ends the one device, logging out everywhere ends all", async () => {
  const account = await register("logout");
  const first = clientOf(account);
  const second = clientOf(await login(account));
  const third = clientOf(await login(account));
  await second.logout(true);
  await refused(second.whoami(), 401, "M_UNKNOWN_TOKEN");
  assert.equal((await first.getDevices()).devices.length, 2);
  const { status } = await request("POST", "/_matrix/client/v3/logout/all", { token: account.accessToken, json: {} });
  assert.equal(status, 200);
  await refused(first.whoami(), 401, "M_UNKNOWN_TOKEN");
  await refused(third.whoami(), 401, "M_UNKNOWN_TOKEN");
});

test("a refresh token is good for a new pair of tokens", async () => {
  const account = await register("refresh");
  const answer = await unattachedClient().loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: account.localpart },
    password: account.password,
    refresh_token: true,
  });
  assert.ok(answer.refresh_token);
  const renewed = await unattachedClient().refreshToken(answer.refresh_token);
  assert.ok(renewed.access_token && renewed.access_token !== answer.access_token);
  const client = clientOf({ ...account, deviceId: answer.device_id, accessToken: renewed.access_token });
  assert.equal((await client.whoami()).device_id, answer.device_id);
  // Once the new token has been used, the old refresh token is dead.
  await refused(unattachedClient().refreshToken(answer.refresh_token), [401, 403], ["M_UNKNOWN_TOKEN", "M_FORBIDDEN"]);
});

test("a logged-in user gets a token that logs another device in, once", async () => {
  const account = await register("handover");
  const client = clientOf(account);
  const { login_token: token } = await withPassword(account, (auth) => client.requestLoginToken(auth ?? undefined));
  const answer = await unattachedClient().loginRequest({ type: "m.login.token", token });
  assert.equal(answer.user_id, account.userId);
  assert.notEqual(answer.device_id, account.deviceId);
  await refused(unattachedClient().loginRequest({ type: "m.login.token", token }), 403, "M_FORBIDDEN");
});

test("devices are listed, renamed, and deleted only with the password", async () => {
  const account = await register("devices");
  const client = clientOf(account);
  const other = clientOf(await login(account));
  const another = clientOf(await login(account));

  await client.setDeviceDetails(other.getDeviceId(), { display_name: "kitchen" });
  assert.equal((await client.getDevice(other.getDeviceId())).display_name, "kitchen");
  await refused(client.getDevice("NOSUCHDEVICE"), 404, "M_NOT_FOUND");

  const unproven = await client.deleteDevice(other.getDeviceId()).catch((error) => error);
  assert.equal(unproven.httpStatus, 401);
  assert.equal((await client.getDevices()).devices.length, 3);
  const wrong = { ...passwordAuth(account, unproven.data), password: "wrong" };
  const rejected = await client.deleteDevice(other.getDeviceId(), wrong).catch((error) => error);
  assert.equal(rejected.httpStatus, 401);
  assert.equal(rejected.data.errcode, "M_FORBIDDEN");

  await client.deleteDevice(other.getDeviceId(), passwordAuth(account, unproven.data));
  await refused(other.whoami(), 401, "M_UNKNOWN_TOKEN");
  await withPassword(account, (auth) => client.deleteMultipleDevices([another.getDeviceId()], auth ?? undefined));
  const { devices } = await client.getDevices();
  assert.deepEqual(devices.map((device) => device.device_id), [account.deviceId]);
});

test("changing the password keeps this device and logs the others out", async () => {
  const account = await register("password");
  const client = clientOf(account);
  const other = clientOf(await login(account));
  const changed = { ...account, password: `${account.password} changed` };
  await withPassword(account, (auth) => client.setPassword(auth ?? undefined, changed.password, true));
  assert.equal((await client.whoami()).user_id, account.userId);
  await refused(other.whoami(), 401, "M_UNKNOWN_TOKEN");
  await refused(login(account), 403, "M_FORBIDDEN");
  assert.equal((await login(changed)).userId, account.userId);
});

test("a deactivated account is gone for good", async () => {
  const account = await register("gone");
  const client = clientOf(account);
  await withPassword(account, (auth) => client.deactivateAccount(auth ?? undefined, true));
  await refused(client.whoami(), 401, "M_UNKNOWN_TOKEN");
  await refused(login(account), 403, ["M_FORBIDDEN", "M_USER_DEACTIVATED"]);
  assert.equal(await unattachedClient().isUsernameAvailable(account.localpart), false);
});

test("capabilities name the default room version and what may be changed", async () => {
  const client = clientOf(await register("capabilities"));
  const capabilities = await client.fetchCapabilities();
  const versions = capabilities["m.room_versions"];
  assert.ok(versions.available[versions.default]);
  for (const version of ["10", "11", "12"]) assert.equal(versions.available[version], "stable");
  assert.equal(capabilities["m.change_password"].enabled, true);
});

test("a filter is stored and given back", async () => {
  const client = clientOf(await register("filter"));
  const definition = { room: { timeline: { limit: 3, types: ["m.room.message"] } }, event_format: "client" };
  const { filterId } = await client.createFilter(definition);
  const stored = await client.getFilter(client.getUserId(), filterId, false);
  assert.deepEqual(stored.getDefinition().room, definition.room);
  await refused(client.getFilter(client.getUserId(), "999999", false), 404, "M_NOT_FOUND");
});

test("account data set on one device arrives on the other and survives a new log-in", async () => {
  const account = await register("accountdata");
  const first = clientOf(account);
  const second = await start(clientOf(await login(account)));
  await first.setAccountDataRaw("org.example.colour", { colour: "blue", nested: { list: [1, 2, 3] } });
  const event = await until(second, "account data", () => second.getAccountData("org.example.colour"));
  assert.deepEqual(event.getContent(), { colour: "blue", nested: { list: [1, 2, 3] } });
  const third = await start(clientOf(await login(account)));
  assert.equal(third.getAccountData("org.example.colour").getContent().colour, "blue");
  const { status, body } = await request(
    "GET",
    `/_matrix/client/v3/user/${encodeURIComponent(account.userId)}/account_data/org.example.none`,
    { token: account.accessToken },
  );
  assert.deepEqual([status, body.errcode], [404, "M_NOT_FOUND"]);
});

test("one user cannot read or write another's account data", async () => {
  const owner = await register("owner");
  const thief = await register("thief");
  const path = `/_matrix/client/v3/user/${encodeURIComponent(owner.userId)}/account_data/org.example.secret`;
  const written = await request("PUT", path, { token: thief.accessToken, json: {} });
  assert.deepEqual([written.status, written.body.errcode], [403, "M_FORBIDDEN"]);
  const read = await request("GET", path, { token: thief.accessToken });
  assert.deepEqual([read.status, read.body.errcode], [403, "M_FORBIDDEN"]);
});

test("an OpenID token names the server", async () => {
  const account = await register("openid");
  const token = await clientOf(account).getOpenIdToken();
  assert.equal(token.token_type, "Bearer");
  assert.ok(account.userId.endsWith(`:${token.matrix_server_name}`));
  assert.ok(token.access_token && token.expires_in > 0);
});

test("push rules are added, changed, switched off and deleted, and arrive by sync", async () => {
  const client = await newClient("pushrules");
  const rule = (kind, id) => client.pushRules?.global[kind]?.find((candidate) => candidate.rule_id === id);
  await until(client, "the default push rules", () => rule("override", ".m.rule.master") && rule("underride", ".m.rule.message"));

  await client.addPushRule("global", "content", "horse", { pattern: "horse", actions: ["notify"] });
  await until(client, "the new rule", () => rule("content", "horse")?.enabled === true);
  await client.setPushRuleEnabled("global", "content", "horse", false);
  await until(client, "the rule switched off", () => rule("content", "horse")?.enabled === false);
  await client.setPushRuleActions("global", "underride", ".m.rule.message", ["dont_notify"]);
  await until(client, "other actions", () => !rule("underride", ".m.rule.message").actions.includes("notify"));
  await client.deletePushRule("global", "content", "horse");
  await until(client, "the rule gone", () => !rule("content", "horse"));

  await refused(client.deletePushRule("global", "content", "horse"), 404, "M_NOT_FOUND");
  await refused(client.setPushRuleEnabled("global", "content", "nosuch", true), 404, "M_NOT_FOUND");
});

test("pushers are set, listed and removed", async () => {
  const client = clientOf(await register("pushers"));
  const pusher = {
    app_display_name: "Example",
    app_id: "org.example.app",
    data: { format: "event_id_only", url: "https://push.example.org/_matrix/push/v1/notify" },
    device_display_name: "phone",
    kind: "http",
    lang: "en",
    pushkey: freshName("key"),
  };
  await client.setPusher(pusher);
  const { pushers } = await client.getPushers();
  assert.equal(pushers.length, 1);
  assert.equal(pushers[0].pushkey, pusher.pushkey);
  assert.deepEqual(pushers[0].data, pusher.data);
  await client.removePusher(pusher.pushkey, pusher.app_id);
  assert.deepEqual((await client.getPushers()).pushers, []);
});

