// Every request the clients of a suite make, so that a failing test can show what was asked and answered.
import { baseUrl } from "./environment.js";

const KEPT = 400;
const exchanges = [];

/** `fetch` for the user called `name`, which writes down what passes. */
export function recordingFetch(name) {
  return async (resource, options = {}) => {
    const url = new URL(resource.toString());
    const exchange = {
      name,
      method: options.method ?? "GET",
      path: url.pathname + url.search,
      body: typeof options.body === "string" ? options.body : undefined,
      status: "no answer",
      answer: "",
    };
    exchanges.push(exchange);
    if (exchanges.length > KEPT) exchanges.shift();
    const response = await fetch(resource, options);
    exchange.status = response.status;
    if (!response.ok) exchange.answer = await response.clone().text();
    return response;
  };
}

/** One request outside the SDK. Answers `{ status, headers, body }`, the body parsed where it is JSON. */
export async function request(method, path, { token, json, body, headers = {} } = {}) {
  const response = await recordingFetch("raw")(baseUrl + path, {
    method,
    body: json === undefined ? body : JSON.stringify(json),
    headers: {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(json !== undefined && { "Content-Type": "application/json" }),
      ...headers,
    },
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(bytes) : bytes };
}

/** Starts a new list: called before each test. */
export function forgetExchanges() {
  exchanges.length = 0;
}

/** The refused requests and the last ones, one line each. */
export function describeExchanges() {
  const cut = (text, length) => (text && text.length > length ? `${text.slice(0, length)}…` : (text ?? ""));
  const line = (e) =>
    `  ${e.name}: ${e.method} ${cut(decodeURIComponent(e.path), 300)} ${cut(e.body, 300)} -> ${e.status} ${cut(e.answer, 300)}`;
  const recent = exchanges.slice(-25);
  const refused = exchanges.filter((e) => typeof e.status === "number" && e.status >= 400 && !recent.includes(e));
  return [...refused.map(line), "  …", ...recent.map(line)].join("\n");
}
