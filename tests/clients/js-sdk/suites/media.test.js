// Media: uploading, downloading and thumbnails (client-server API, "Content repository").
import { test } from "../support/suite.js";
import assert from "node:assert/strict";
import http from "node:http";
import { deflateSync, crc32 } from "node:zlib";
import { before } from "node:test";
import { refused } from "../support/refusal.js";
import { baseUrl } from "../support/environment.js";
import { request } from "../support/exchanges.js";
import { clientOf, newClient, register, roomOf, untilEvent } from "../support/user.js";

let alice;
let bob;

before(async () => {
  alice = await newClient("alice");
  bob = await newClient("bob");
});

/** A PNG of one colour. */
function png(width, height) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const row = Buffer.concat([Buffer.from([0]), Buffer.alloc(width * 3, 0x7f)]);
  const pixels = deflateSync(Buffer.concat(Array.from({ length: height }, () => row)));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

/** Width and height of a PNG, or of a JPEG. */
function dimensions(image) {
  if (image.readUInt32BE(0) === 0x89504e47) return [image.readUInt32BE(16), image.readUInt32BE(20)];
  assert.equal(image.readUInt16BE(0), 0xffd8, "neither PNG nor JPEG");
  for (let at = 2; at < image.length; at += 2 + image.readUInt16BE(at + 2)) {
    const marker = image[at + 1];
    if (marker >= 0xc0 && marker <= 0xc3) return [image.readUInt16BE(at + 7), image.readUInt16BE(at + 5)];
  }
  return assert.fail("no size in the JPEG");
}

const upload = async (client, bytes, options) => (await client.uploadContent(bytes, options)).content_uri;

/** What the client would fetch for `mxc`, by the authenticated endpoints. */
function fetched(client, mxc, options = {}, headers = {}) {
  const { width, height, method } = options;
  const url = new URL(client.mxcUrlToHttp(mxc, width, height, method, false, true, true));
  return request("GET", url.pathname + url.search, { token: client.getAccessToken(), headers });
}

test("what is uploaded is downloaded by another user, byte for byte, with its type and name", async () => {
  const bytes = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256));
  const mxc = await upload(alice, bytes, { type: "application/octet-stream", name: "größe.bin" });
  assert.match(mxc, new RegExp(`^mxc://${alice.getDomain()}/[A-Za-z0-9_-]+$`));
  const { status, headers, body } = await fetched(bob, mxc);
  assert.equal(status, 200);
  assert.ok(body.equals(bytes));
  assert.equal(headers.get("content-type"), "application/octet-stream");
  assert.match(headers.get("content-disposition"), /^attachment; ?filename\*=utf-8''gr%C3%B6%C3%9Fe\.bin$/i);
  assert.ok(headers.get("content-security-policy").includes("sandbox"));
  assert.equal(headers.get("cross-origin-resource-policy"), "cross-origin");
});

test("what a browser could run is not shown in place", async () => {
  const mxc = await upload(alice, "<script>alert(1)</script>", { type: "text/html", name: "page.html" });
  const { headers } = await fetched(bob, mxc);
  assert.match(headers.get("content-disposition"), /^attachment/);
});

test("media cannot be had without a token, nor where there is none", async () => {
  const mxc = await upload(alice, "secret", { type: "text/plain" });
  const url = new URL(alice.mxcUrlToHttp(mxc, undefined, undefined, undefined, false, true, true));
  const { status, body } = await request("GET", url.pathname);
  assert.deepEqual([status, body.errcode], [401, "M_MISSING_TOKEN"]);
  const missing = await fetched(bob, `mxc://${alice.getDomain()}/nosuchmedia`);
  assert.deepEqual([missing.status, missing.body.errcode], [404, "M_NOT_FOUND"]);
  const unauthorised = clientOf({ ...(await register("x")), accessToken: "dead" });
  await refused(unauthorised.uploadContent("bytes"), 401, "M_UNKNOWN_TOKEN");
});

test("thumbnails keep the proportions when scaled and fill the frame when cropped", async () => {
  const mxc = await upload(alice, png(400, 200), { type: "image/png", name: "wide.png" });
  const original = await fetched(bob, mxc);
  assert.deepEqual(dimensions(original.body), [400, 200]);
  assert.match(original.headers.get("content-disposition"), /^inline/);

  const scaled = await fetched(bob, mxc, { width: 100, height: 100, method: "scale" });
  assert.equal(scaled.status, 200);
  const [width, height] = dimensions(scaled.body);
  assert.equal(width, height * 2);
  const cropped = await fetched(bob, mxc, { width: 64, height: 64, method: "crop" });
  const [side, other] = dimensions(cropped.body);
  assert.equal(side, other);
  assert.match(cropped.headers.get("content-type"), /^image\/(png|jpeg)$/);
});

test("what is no image has no thumbnail", async () => {
  const mxc = await upload(alice, "just words", { type: "text/plain" });
  const { status, body } = await fetched(bob, mxc, { width: 32, height: 32, method: "crop" });
  assert.ok([400, 404].includes(status), `status ${status}`);
  assert.ok(["M_UNKNOWN", "M_NOT_FOUND"].includes(body.errcode), body.errcode);
});

test("an upload over the limit that the server names is refused by its announced length", async () => {
  const config = await alice.getMediaConfig(true);
  const limit = config["m.upload.size"];
  assert.ok(limit > 0);
  // Only the length is sent: a server that waits for the body first never answers.
  const answer = await new Promise((resolve, reject) => {
    const post = http.request(`${baseUrl}/_matrix/media/v3/upload`, {
      method: "POST",
      headers: {
        Authorization: `Bearer ${alice.getAccessToken()}`,
        "Content-Type": "application/octet-stream",
        "Content-Length": limit + 1,
      },
      timeout: 20_000,
    });
    post.on("response", async (response) => {
      const chunks = await response.toArray();
      resolve({ status: response.statusCode, body: JSON.parse(Buffer.concat(chunks)) });
      post.destroy();
    });
    post.on("timeout", () => post.destroy(new Error("no answer to the announced length")));
    post.on("error", reject);
    post.flushHeaders();
  });
  assert.deepEqual([answer.status, answer.body.errcode], [413, "M_TOO_LARGE"]);
});

test("a picture sent to a room is seen by the other", async () => {
  const roomId = await roomOf(alice, [bob]);
  const mxc = await upload(alice, png(50, 50), { type: "image/png", name: "cat.png" });
  const { event_id: eventId } = await alice.sendImageMessage(roomId, mxc, { w: 50, h: 50, mimetype: "image/png" }, "cat.png");
  const event = await untilEvent(bob, roomId, eventId);
  assert.deepEqual(dimensions((await fetched(bob, event.getContent().url)).body), [50, 50]);
});
