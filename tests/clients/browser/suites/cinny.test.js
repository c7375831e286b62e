// Cinny in Chromium: register and log in in its pages, make an encrypted room, invite, join, and talk.
//
// No package registry has a built Cinny, so that CINNY_DIST must name the directory of one.
import { after, before } from "node:test";
import { fresh, homeserver, test } from "../support/people.js";
import { serve } from "../support/serve.js";

let client;

before(async () => {
  client = await serve([process.env.CINNY_DIST], {
    "/config.json": JSON.stringify({
      defaultHomeserver: 0,
      homeserverList: [homeserver],
      allowCustomHomeservers: true,
      hashRouter: { enabled: false, basename: "/" },
    }),
  });
});

after(() => client?.close());

const home = (page) => page.waitForURL(/\/(home|direct|explore|inbox)\//);

async function register(page, name) {
  const username = fresh(name);
  const password = `${username} and a horse`;
  await page.goto(`${client.url}/register/`);
  await page.locator("input[name=usernameInput]").fill(username);
  await page.locator("input[name=passwordInput]").fill(password);
  await page.locator("input[name=confirmPasswordInput]").fill(password);
  await page.getByRole("button", { name: "Register" }).click();
  await home(page);
  const userId = await page.evaluate(() => localStorage.getItem("cinny_user_id"));
  return { username, password, userId };
}

async function login(page, account) {
  await page.goto(`${client.url}/login/`);
  await page.locator("input[name=usernameInput]").fill(account.username);
  await page.locator("input[name=passwordInput]").fill(account.password);
  await page.getByRole("button", { name: "Login" }).click();
  await home(page);
}

async function makeRoom(page, name) {
  await page.goto(`${client.url}/home/`);
  await page.getByRole("button", { name: "Create Room" }).first().click();
  await page.locator("input[name=name]").fill(name);
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("button", { name: "Invite Member" }).waitFor();
}

async function invite(page, userId) {
  await page.getByRole("button", { name: "Invite Member" }).click();
  await page.locator(".invite-user input").fill(userId);
  await page.locator(".invite-user button[type=submit]").click();
  await page.locator(".invite-user").getByRole("button", { name: "Invite", exact: true }).click();
  await page.locator(".invite-user").getByText("Invited").waitFor();
  const overlay = page.locator(".ReactModal__Overlay");
  await overlay.click({ position: { x: 5, y: 5 } });
  await overlay.waitFor({ state: "detached" });
}

async function accept(page, roomName) {
  await page.goto(`${client.url}/inbox/invites/`);
  await page.getByText(roomName).first().waitFor();
  await page.getByRole("button", { name: "Accept" }).click();
  await page.locator("[data-slate-editor]").waitFor();
}

async function say(page, text) {
  await page.locator("[data-slate-editor]").click();
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}

const shows = (page, text) => page.locator("[data-message-id]").getByText(text, { exact: true }).waitFor();

test("two people register in Cinny, make an encrypted room and talk", ["alice", "bob"], async ({ alice, bob }) => {
  await register(alice, "anne");
  const ben = await register(bob, "ben");
  const room = fresh("Garden");
  await makeRoom(alice, room);
  await invite(alice, ben.userId);
  await accept(bob, room);
  await say(alice, "can you read this?");
  await shows(bob, "can you read this?");
  await say(bob, "every word");
  await shows(alice, "every word");
  await bob.reload();
  await shows(bob, "can you read this?");
});

test("a registered user logs in again in Cinny, on another device", ["desk", "phone"], async ({ desk, phone }) => {
  const account = await register(desk, "carol");
  const room = fresh("Notes");
  await makeRoom(desk, room);
  await login(phone, account);
  await phone.goto(`${client.url}/home/`);
  await phone.getByText(room).first().click();
  await phone.locator("[data-slate-editor]").waitFor();
  await say(phone, "from the phone");
  await shows(desk, "from the phone");
});
