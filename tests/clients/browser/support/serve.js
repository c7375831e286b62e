// Serves the files of a web client on a port of its own.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".woff2": "font/woff2",
};

/**
 * Serves the `directories`, the first that has a file wins; `generated` maps paths to texts that win over both.
 * As single-page applications need it, a path that is no file gets the file of its last segment at the top,
 * and else `index.html`.
 * Answers `{ url, close }`.
 */
export async function serve(directories, generated = {}) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const wanted = pathname === "/" ? "/index.html" : path.posix.normalize(decodeURIComponent(pathname));
    if (Object.hasOwn(generated, wanted)) {
      response.writeHead(200, { "Content-Type": typeOf(wanted) }).end(generated[wanted]);
      return;
    }
    const fallbacks = [wanted, `/${path.posix.basename(wanted)}`, "/index.html"];
    let file = null;
    for (const candidate of fallbacks) file ??= await find(directories, candidate);
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": typeOf(file) });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

const typeOf = (file) => TYPES[path.extname(file)] ?? "application/octet-stream";

async function find(directories, wanted) {
  for (const directory of directories) {
    const file = path.join(directory, wanted);
    const status = await stat(file).catch(() => null);
    if (status?.isFile()) return file;
  }
  return null;
}
