// Accounts for clients that cannot make one themselves.
import { fresh, homeserver } from "./people.js";

/** Registers a user by the API: `{ username, password, userId, token }`. */
export async function register(name) {
  const username = fresh(name);
  const password = `${username} and a horse`;
  const post = (auth) =>
    fetch(`${homeserver}/_matrix/client/v3/register`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ username, password, ...(auth && { auth }) }),
    });
  const { session } = await (await post()).json();
  const answer = await post({ type: "m.login.dummy", session });
  if (!answer.ok) throw new Error(`registering ${username}: ${answer.status} ${await answer.text()}`);
  const body = await answer.json();
  return { username, password, userId: body.user_id, token: body.access_token };
}
