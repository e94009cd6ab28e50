// The accounts at the end balance: nothing of the streams was counted twice, and nothing was left out.
import type { Checker } from "./checker.ts";

export const accounts: Checker = {
  name: "accounts",
  promises: "every row and every message counts once",
  begin: () => (event) => {
    if (event.kind !== "account" || event.expected === event.found) return [];
    return [`${event.what}: expected ${event.expected}, found ${event.found}`];
  },
};
