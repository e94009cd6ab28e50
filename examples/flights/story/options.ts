// The knobs of the story. Defaults are the ones the README quotes.
import { parseArgs } from "node:util";

export type StoryOptions = {
  server: string;
  /** The command line of the mesh: program and first arguments. */
  driftmesh: readonly string[];
  /** Data folder of the mesh that plays (for the search of strict mode). */
  data: string;
  every: number;
  offset: number;
  changeDay: number;
  faultDay: number;
  /** Event time over wall time. */
  speed: number;
  toDay: number;
};

/** Event days per wall second at the default speed: 77 days in about two minutes. */
const DEFAULT_SPEED = 54_000;

/** Reads the arguments; every problem is named at once. */
export function readOptions(args: readonly string[]): StoryOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      server: { type: "string", default: "127.0.0.1:4747" },
      driftmesh: { type: "string", default: "./driftmesh" },
      data: { type: "string", default: ".driftmesh" },
      every: { type: "string", default: "10" },
      offset: { type: "string", default: "0" },
      "change-day": { type: "string", default: "75" },
      "fault-day": { type: "string", default: "60" },
      speed: { type: "string", default: String(DEFAULT_SPEED) },
      full: { type: "boolean", default: false },
    },
  });
  const problems: string[] = [];
  const whole = (name: string, text: string, low: number, high: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < low || value > high)
      problems.push(`--${name} is a whole number from ${low} to ${high}, not "${text}"`);
    return value;
  };
  const every = values.full ? 1 : whole("every", values.every, 1, 100);
  const offset = whole("offset", values.offset, 0, Math.max(0, every - 1));
  const changeDay = whole("change-day", values["change-day"], 60, 140);
  const faultDay = whole("fault-day", values["fault-day"], 40, 140);
  const speed = Number(values.speed);
  if (!(speed > 0)) problems.push(`--speed is a number above 0, not "${values.speed}"`);
  if (problems.length > 0) throw new Error(problems.join("; "));
  const toDay = Math.max(105, changeDay + 30);
  const driftmesh = values.driftmesh.split(" ");
  return { server: values.server, driftmesh, data: values.data, every, offset, changeDay, faultDay, speed, toDay };
}
