// Nobody runs in circles: a key that is written again and again decides nothing.
import type { Checker } from "./checker.ts";

/** Writes of one key within this time that no honest history needs: a lease is renewed every 5 s, a ledger saved five times a second. */
const WITHIN_MS = 10_000;
const MOST = 100;

export const calm: Checker = {
  name: "calm",
  promises: "no key is written in circles",
  begin: () => {
    const recent = new Map<string, number[]>();
    return (event, atMs) => {
      if (event.kind !== "write") return [];
      return event.changes.flatMap(({ key }) => {
        const times = recent.get(key) ?? [];
        recent.set(key, times);
        times.push(atMs);
        while ((times[0] ?? atMs) < atMs - WITHIN_MS) times.shift();
        return times.length === MOST ? [`${event.by} wrote ${key} ${MOST} times within ${WITHIN_MS / 1000} s`] : [];
      });
    };
  },
};
