// Element in Chromium: register and log in in its pages, make rooms, invite, join, and talk.
//
// ELEMENT_DIST names the directory of a built Element: that of ../../element, or a release of Element Web.
import { after, before } from "node:test";
import { fresh, homeserver, test } from "../support/people.js";
import { serve } from "../support/serve.js";

let client;

before(async () => {
  client = await serve([process.env.ELEMENT_DIST], {
    "/config.json": JSON.stringify({
      brand: "Element",
      default_server_config: { "m.homeserver": { base_url: homeserver, server_name: "clients.test" } },
      default_theme: "light",
      disable_guests: true,
    }),
  });
});

after(() => client?.close());

/** Waits for the rooms of a user who has come in. */
async function home(page) {
  const rooms = page.locator(".mx_LeftPanel");
  const question = page.locator(".mx_UseCaseSelection_skip").getByRole("button");
  await rooms.or(question).first().waitFor();
  // New users are asked what they want Element for.
  if (await question.isVisible()) await question.click();
  await rooms.waitFor();
}

async function register(page, name) {
  const username = fresh(name);
  const password = `${username} and a horse`;
  await page.goto(`${client.url}/#/register`);
  await page.locator("#mx_RegistrationForm_username").fill(username);
  await page.locator("#mx_RegistrationForm_password").fill(password);
  await page.locator("#mx_RegistrationForm_passwordConfirm").fill(password);
  await page.getByRole("button", { name: "Register" }).click();
  await home(page);
  const userId = await page.evaluate(() => localStorage.getItem("mx_user_id"));
  return { username, password, userId };
}

async function login(page, account) {
  await page.goto(`${client.url}/#/login`);
  await page.locator("#mx_LoginForm_username").fill(account.username);
  await page.locator("#mx_LoginForm_password").fill(account.password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function makeRoom(page, name, encrypted) {
  await page.locator(".mx_RoomListHeader_plusButton").click();
  await page.getByRole("menuitem", { name: "New room" }).click();
  await page.locator(".mx_CreateRoomDialog_name input").fill(name);
  const toggle = page.locator(".mx_CreateRoomDialog_e2eSwitch").getByRole("switch");
  if ((await toggle.getAttribute("aria-checked")) !== `${encrypted}`) await toggle.click();
  await page.getByRole("button", { name: "Create room" }).click();
  await page.locator(".mx_NewRoomIntro").waitFor();
}

async function invite(page, userId) {
  await page.locator(".mx_NewRoomIntro_inviteButton").click();
  await page.getByTestId("invite-dialog-input").fill(userId);
  await page.locator(".mx_InviteDialog_goButton").click();
  await page.locator(".mx_InviteDialog_other").waitFor({ state: "detached" });
}

async function accept(page, roomName) {
  await page.locator(".mx_RoomTile", { hasText: roomName }).click();
  await page.getByRole("button", { name: "Accept" }).click();
  await page.locator(".mx_BasicMessageComposer_input").waitFor();
}

async function say(page, text) {
  await page.locator(".mx_BasicMessageComposer_input").click();
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}

const shows = (page, text) => page.locator(".mx_EventTile_body").getByText(text, { exact: true }).first().waitFor();

for (const encrypted of [false, true]) {
  const kind = encrypted ? "an encrypted" : "an open";
  test(`two people register in Element, make ${kind} room and talk`, ["alice", "bob"], async ({ alice, bob }) => {
    await register(alice, "anne");
    const ben = await register(bob, "ben");
    const room = fresh("Garden");
    await makeRoom(alice, room, encrypted);
    await invite(alice, ben.userId);
    await accept(bob, room);
    await say(alice, "can you read this?");
    await shows(bob, "can you read this?");
    await say(bob, "every word");
    await shows(alice, "every word");
    await bob.reload();
    await shows(bob, "can you read this?");
    await say(alice, "and this?");
    await shows(bob, "and this?");
  });
}

test("a registered user logs in again in Element and finds the room", ["desk", "phone"], async ({ desk, phone }) => {
  const account = await register(desk, "carol");
  const room = fresh("Notes");
  await makeRoom(desk, room, false);
  await say(desk, "buy milk");
  await shows(desk, "buy milk");
  await login(phone, account);
  // Element asks the new device to prove itself, and lets it in without.
  await phone.getByRole("button", { name: "Skip verification for now" }).click();
  await phone.getByRole("button", { name: "I'll verify later" }).click();
  await phone.locator(".mx_RoomTile", { hasText: room }).click();
  await shows(phone, "buy milk");
});
