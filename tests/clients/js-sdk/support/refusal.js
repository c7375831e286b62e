// What the homeserver must refuse, and how.
import assert from "node:assert/strict";

/** Asserts that `promise` is refused with the status and the errcode (or one of several). */
export async function refused(promise, status, errcodes) {
  const error = await promise.then(
    (value) => assert.fail(`expected ${status} ${errcodes}, but it was allowed: ${JSON.stringify(value)}`),
    (thrown) => thrown,
  );
  if (error instanceof assert.AssertionError) throw error;
  const allowed = [errcodes].flat();
  assert.ok([status].flat().includes(error.httpStatus), `expected ${status} ${allowed}, got: ${error.stack}`);
  assert.ok(allowed.includes(error.errcode), `expected ${allowed}, got ${error.errcode}: ${error.message}`);
  return error;
}
