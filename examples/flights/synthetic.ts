// Owns made-up flights and tables for tests: small, reproducible, with a pattern that can be learned.
import { DAY0_MS, type Flights } from "./dataset.ts";
import type { Table } from "./table.ts";

const AIRPORTS = ["ATL", "BOS", "DEN", "ORD", "SEA"] as const;

export type Made = { minute: number; delay: number; distance: number; origin: number; destination: number };

/** Flights by minutes since 1 January, sorted by time; `index` is the place after sorting. */
export function flightsOf(made: readonly Made[]): Flights {
  const sorted = made.toSorted((a, b) => a.minute - b.minute);
  return {
    rows: sorted.length,
    dateMs: Float64Array.from(sorted, ({ minute }) => DAY0_MS + minute * 60_000),
    delay: Int32Array.from(sorted, ({ delay }) => delay),
    distance: Int32Array.from(sorted, ({ distance }) => distance),
    origin: Uint16Array.from(sorted, ({ origin }) => origin % AIRPORTS.length),
    destination: Uint16Array.from(sorted, ({ destination }) => destination % AIRPORTS.length),
    airports: AIRPORTS,
    index: Uint32Array.from(sorted.keys()),
  };
}

/** `perDay` flights a day, evenly spread; late in the evening and from ORD more often than not. */
export function plainFlights(days: number, perDay: number): Flights {
  const made: Made[] = [];
  for (let at = 0; at < days * perDay; at++) {
    const minute = Math.floor((at * 1440) / perDay);
    const origin = (at * 7 + (at >> 3)) % AIRPORTS.length;
    const evening = minute % 1440 > 1000;
    const late = (evening ? 3 : 0) + (origin === 3 ? 3 : 0) + ((at * 2654435761) % 97) / 24 > 4;
    made.push({ minute, delay: late ? 40 : 2, distance: 100 + ((at * 37) % 2400), origin, destination: at + 1 });
  }
  return flightsOf(made);
}

/** One number and one category that tell the label, hourly from 1 January on; `label` gives it for a row. */
export function tableOf(rows: number, label: (row: number) => number): Table {
  const all = [...Array(rows).keys()];
  return {
    rows,
    eventMs: Float64Array.from(all, (row) => DAY0_MS + row * 3_600_000),
    columns: [
      { name: "hour", type: "number", values: Float32Array.from(all, (row) => row % 24) },
      {
        name: "origin",
        type: "category",
        values: all.map((row) => AIRPORTS[(row * 3 + (row >> 2)) % AIRPORTS.length] ?? ""),
      },
    ],
    label: Uint8Array.from(all, label),
  };
}
