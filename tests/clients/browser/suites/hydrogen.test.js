// Hydrogen Web (from the package registry, built here) in Chromium: log in, make a room, invite, join, and talk.
import { after, before } from "node:test";
import assert from "node:assert/strict";
import path from "node:path";
import { readFile } from "node:fs/promises";
import { build } from "esbuild";
import { register } from "../support/account.js";
import { fresh, homeserver, test } from "../support/people.js";
import { serve } from "../support/serve.js";

const HERE = path.join(import.meta.dirname, "..");
const MODULES = path.join(HERE, "node_modules");

let client;

before(async () => {
  const { outputFiles } = await build({
    entryPoints: [path.join(HERE, "hydrogen", "page.js")],
    bundle: true,
    format: "esm",
    target: "chrome120",
    // Only Node would need them, for the encryption library.
    external: ["fs", "path", "crypto"],
    write: false,
    logLevel: "error",
  });
  const index = `<!doctype html>
<html><head>
  <meta charset="utf-8"><title>Hydrogen</title>
  <link rel="stylesheet" href="assets/theme-element-light.css">
  <script>window.HOMESERVER_URL = ${JSON.stringify(homeserver)};</script>
</head><body id="app" class="hydrogen"><script type="module" src="page.js"></script></body></html>`;
  const hydrogen = path.join(MODULES, "hydrogen-view-sdk");
  client = await serve([path.join(hydrogen, "asset-build"), path.join(hydrogen, "lib-build")], {
    "/index.html": index,
    "/page.js": outputFiles[0].contents,
    ...(await olm()),
  });
});

after(() => client?.close());

/** The encryption library's files, by the paths that the page asks for. */
async function olm() {
  const files = {};
  for (const name of ["olm.js", "olm.wasm", "olm_legacy.js"]) {
    files[`/olm/${name}`] = await readFile(path.join(MODULES, "@matrix-org", "olm", name));
  }
  return files;
}

async function login(page, account) {
  await page.goto(client.url);
  await page.locator("#username").fill(account.username);
  await page.locator("#password").fill(account.password);
  await page.getByRole("button", { name: "Log In" }).click();
  await page.locator(".LeftPanel").waitFor();
}

async function makeRoom(page, name, encrypted) {
  await page.getByRole("button", { name: "Create room" }).click();
  await page.getByText("Create Room", { exact: true }).click();
  await page.locator("#name").fill(name);
  await page.locator("#isEncrypted").setChecked(encrypted);
  await page.locator(".CreateRoomView button[type=submit]").click();
  // Until the server has named the room, the list has it under a name of the client's own.
  await page.locator(".RoomList a[href*='/!']", { hasText: name }).click();
  await page.locator(".RoomView .room-description", { hasText: name }).waitFor();
}

async function invite(page, userId) {
  await page.getByRole("button", { name: "Room options" }).click();
  await page.getByText("Room details").click();
  await page.locator(".RoomDetailsView_row", { hasText: "People" }).click();
  await page.getByRole("button", { name: "Invite to this room" }).click();
  await page.locator(".InvitePanelView__input").fill(userId);
  await page.locator(".InvitePanelView__btn").click();
}

async function accept(page, roomName) {
  await page.locator(".RoomList").getByText(roomName).click();
  await page.getByRole("button", { name: "Accept" }).click();
  await page.locator(".RoomView .room-description", { hasText: roomName }).waitFor();
}

async function say(page, text) {
  const composer = page.locator(".MessageComposer textarea");
  await composer.fill(text);
  await composer.press("Enter");
}

const shows = (page, text) => page.locator(".Timeline_messageBody", { hasText: text }).first().waitFor();

for (const encrypted of [false, true]) {
  const kind = encrypted ? "an encrypted" : "an open";
  test(`two people make ${kind} room in Hydrogen and talk`, ["alice", "bob"], async ({ alice, bob }) => {
    const [anne, ben] = [await register("anne"), await register("ben")];
    await login(alice, anne);
    await login(bob, ben);
    const room = fresh("Garden");
    await makeRoom(alice, room, encrypted);
    await invite(alice, ben.userId);
    await accept(bob, room);
    await say(alice, "can you read this?");
    await shows(bob, "can you read this?");
    await say(bob, "every word");
    await shows(alice, "every word");

    // What was said is still there when the page is opened anew, from the client's own store.
    await bob.reload();
    await shows(bob, "can you read this?");
    await say(alice, "and this?");
    await shows(bob, "and this?");
  });
}

test("a wrong password is told in Hydrogen, not a broken page", ["carol"], async ({ carol }) => {
  const account = await register("carol");
  await carol.goto(client.url);
  await carol.locator("#username").fill(account.username);
  await carol.locator("#password").fill("wrong");
  await carol.getByRole("button", { name: "Log In" }).click();
  const message = await carol.locator(".error").filter({ hasText: /./ }).first().textContent();
  assert.match(message, /password/i);
});
