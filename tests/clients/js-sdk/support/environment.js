// What a suite is told from outside, and what Node lacks that the SDK expects. Imported before the SDK.
//
//   HOMESERVER_URL              base address of the homeserver, for example http://127.0.0.1:8008
//   REGISTRATION_TOKEN          the token to give where registration asks for one
//   REGISTRATION_SHARED_SECRET  register with the admin endpoint and this secret instead

// The SDK's oldest Node is 22; this one function is all that Node 20 misses of what the suites reach.
Promise.withResolvers ??= function withResolvers() {
  let resolve;
  let reject;
  const promise = new this((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
};

const address = process.env.HOMESERVER_URL;
if (!address) {
  throw new Error("HOMESERVER_URL is not set: tests/clients/run sets it");
}

/** Base address of the homeserver, with no slash at its end. */
export const baseUrl = address.replace(/\/+$/, "");

/** The token that registration asks for, if it does. */
export const registrationToken = process.env.REGISTRATION_TOKEN;

/** The secret of `/_synapse/admin/v1/register`, where open registration is switched off. */
export const sharedSecret = process.env.REGISTRATION_SHARED_SECRET;
