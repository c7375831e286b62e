// `node:test` with the habits of these suites: clients are stopped at the end of a file, and a test that
// fails shows the requests that were made during it.
import "./environment.js";
import { after, test as nodeTest } from "node:test";
import { describeExchanges, forgetExchanges } from "./exchanges.js";
import { stopAll } from "./user.js";

after(stopAll);

/** A test whose name is the behaviour it proves. */
export function test(name, body) {
  nodeTest(name, async (context) => {
    forgetExchanges();
    try {
      await body(context);
    } catch (error) {
      context.diagnostic(`"${name}" failed; what was asked and answered:`);
      for (const line of describeExchanges().split("\n")) context.diagnostic(line);
      throw error;
    }
  });
}
