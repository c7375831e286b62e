// Chromium with one context for each person, so that they share neither cookies nor storage.
//
//   HOMESERVER_URL   base address of the homeserver
//   CHROMIUM         the browser (default: /usr/bin/chromium)
//   SCREENSHOTS      where a failing test leaves a picture of every person's page (default: .work/)
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { test as nodeTest } from "node:test";
import { chromium } from "playwright-core";

if (!process.env.HOMESERVER_URL) throw new Error("HOMESERVER_URL is not set: tests/clients/run sets it");

/** Base address of the homeserver, with no slash at its end. */
export const homeserver = process.env.HOMESERVER_URL.replace(/\/+$/, "");

/** How long a page may take to show what is waited for. */
const PATIENCE_MS = 90_000;

const SCREENSHOTS = process.env.SCREENSHOTS ?? path.join(import.meta.dirname, "..", ".work");

// No sandbox, because the tests may run as root in a container; the rest keeps Chromium from asking for its
// makers' hosts, which need not be reachable.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];

let counter = 0;

/** A name that no other run has used, fit for a user and for a room. */
export function fresh(name) {
  counter += 1;
  return `${name}-${Date.now().toString(36)}-${process.pid}-${counter}`;
}

/**
 * A test with a page for each of `names`: `body` is called with `{ [name]: page }`. If it fails, every page is
 * photographed and the requests that the homeserver refused are shown.
 */
export function test(title, names, body) {
  nodeTest(title, async (context) => {
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
    });
    const notes = [];
    try {
      const pages = {};
      for (const name of names) pages[name] = await open(browser, name, notes);
      try {
        await body(pages);
      } catch (error) {
        await photograph(context, title, pages);
        for (const note of notes) context.diagnostic(note);
        throw error;
      }
    } finally {
      await browser.close();
    }
  });
}

async function open(browser, name, notes) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB" });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.on("response", async (response) => {
    if (response.status() < 400 || !response.url().startsWith(homeserver)) return;
    const request = response.request();
    const answer = await response.text().catch(() => "");
    notes.push(`${name}: ${request.method()} ${response.url()} ${request.postData() ?? ""} -> ${response.status()} ${answer}`);
  });
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    if (request.url().startsWith(homeserver) && why !== "net::ERR_ABORTED") {
      notes.push(`${name}: ${request.method()} ${request.url()} -> ${why}`);
    }
  });
  page.on("console", (message) => {
    if (message.type() === "error") notes.push(`${name}'s console: ${message.text().slice(0, 500)}`);
  });
  page.on("pageerror", (error) => notes.push(`${name}'s page: ${error.stack}`));
  return page;
}

async function photograph(context, title, pages) {
  await mkdir(SCREENSHOTS, { recursive: true });
  for (const [name, page] of Object.entries(pages)) {
    const file = path.join(SCREENSHOTS, `${title}-${name}.png`.replaceAll(/[^A-Za-z0-9.]+/g, "-"));
    await page.screenshot({ path: file }).catch(() => {});
    context.diagnostic(`${name}'s page: ${file}`);
  }
}
