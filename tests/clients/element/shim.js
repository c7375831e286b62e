// What Element's libraries expect of a bundler and no browser has.
import { Buffer } from "buffer";

globalThis.Buffer ??= Buffer;
globalThis.process ??= { env: {}, browser: true, nextTick: (call, ...rest) => queueMicrotask(() => call(...rest)) };
export { Buffer };
