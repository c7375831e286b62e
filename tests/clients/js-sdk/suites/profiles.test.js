// Profiles and the user directory (client-server API, "Profiles", "User directory").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import { before } from "node:test";
import { refused } from "../support/refusal.js";
import { request } from "../support/exchanges.js";
import { clientOf, freshName, newClient, register, roomOf, until } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice");
  bob = await newClient("bob");
});

test("a new name and picture show in the profile and in every room", async () => {
  const roomId = await roomOf(alice, [bob]);
  await alice.setDisplayName("Alice A.");
  await alice.setAvatarUrl("mxc://example.org/picture");
  const profile = await bob.getProfileInfo(alice.getUserId());
  assert.deepEqual([profile.displayname, profile.avatar_url], ["Alice A.", "mxc://example.org/picture"]);
  assert.deepEqual(await bob.getProfileInfo(alice.getUserId(), "displayname"), { displayname: "Alice A." });
  await until(bob, "the name in the room", () => {
    const member = bob.getRoom(roomId).getMember(alice.getUserId());
    return member.rawDisplayName === "Alice A." && member.getMxcAvatarUrl() === "mxc://example.org/picture";
  });
});

for (const [manner, token] of [
  ["without a token", undefined],
  ["with a dead token", "dead"],
]) {
  test(`a display name can be read ${manner}`, async () => {
    const account = await register("public");
    await clientOf(account).setDisplayName("Public");
    const path = `/_matrix/client/v3/profile/${encodeURIComponent(account.userId)}/displayname`;
    const { status, body } = await request("GET", path, { token });
    assert.deepEqual([status, body], [200, { displayname: "Public" }]);
  });
}

test("the profile of nobody is not found", async () => {
  const nobody = `@${freshName("nobody")}:${alice.getDomain()}`;
  await refused(alice.getProfileInfo(nobody), 404, "M_NOT_FOUND");
});

test("another's profile cannot be changed", async () => {
  const path = `/_matrix/client/v3/profile/${encodeURIComponent(alice.getUserId())}/displayname`;
  const { status, body } = await request("PUT", path, { token: bob.getAccessToken(), json: { displayname: "Mallory" } });
  assert.ok([400, 403].includes(status) && body.errcode === "M_FORBIDDEN", `${status} ${body.errcode}`);
  assert.notEqual((await alice.getProfileInfo(alice.getUserId())).displayname, "Mallory");
});

test("a profile field of one's own is kept, changed, deleted, and read by others at once", async () => {
  assert.equal(await alice.doesServerSupportExtendedProfiles(), true);
  const field = "org.example.job";
  // Past the SDK, which keeps what it has read.
  const profile = `/_matrix/client/v3/profile/${encodeURIComponent(alice.getUserId())}`;
  const read = async (path) => (await request("GET", path, { token: bob.getAccessToken() })).body;
  await alice.setExtendedProfileProperty(field, { title: "Gardener", since: 2020 });
  assert.deepEqual(await read(`${profile}/${field}`), { [field]: { title: "Gardener", since: 2020 } });
  assert.deepEqual((await read(profile))[field], { title: "Gardener", since: 2020 });
  await alice.setExtendedProfileProperty(field, "Cook");
  assert.deepEqual(await read(`${profile}/${field}`), { [field]: "Cook" });
  await alice.deleteExtendedProfileProperty(field);
  assert.equal((await read(`${profile}/${field}`)).errcode, "M_NOT_FOUND");
  assert.equal((await read(profile))[field], undefined);
});

test("a profile field that is too large is refused", async () => {
  await refused(
    alice.setExtendedProfileProperty("org.example.large", "x".repeat(70_000)),
    [400, 413],
    ["M_TOO_LARGE", "M_PROFILE_TOO_LARGE"],
  );
});

test("a user is found by name by whoever shares a room", async () => {
  await roomOf(alice, [bob]);
  const name = freshName("Unmistakable");
  await alice.setDisplayName(name);
  // The directory may lag behind the profile: ask whenever bob hears of something, and make him hear.
  const found = await until(bob, "the user in the directory", async () => {
    const { results } = await bob.searchUserDirectory({ term: name, limit: 5 });
    return results.find((user) => user.user_id === alice.getUserId());
  });
  assert.equal(found.display_name, name);
});
