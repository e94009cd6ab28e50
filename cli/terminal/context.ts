// What a command is given: settings that hold for all commands, the terminal, the clock, and clients of the mesh.
import type { DescService } from "@bufbuild/protobuf";
import type { Clock } from "#kernel/base/clock.ts";
import type { Environment } from "#kernel/base/environment.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { connectClient } from "#kernel/rpc/connect.ts";

export const FORMATS = ["table", "wide", "json", "yaml", "name"] as const;
/** How to print. `table` is for people; `json` and `yaml` are the API's messages. */
export type Format = (typeof FORMATS)[number];

export type Context = {
  env: Environment;
  clock: Clock;
  rand: Rand;
  /** Aborts on Ctrl-C. */
  signal: AbortSignal;
  /** The repository's folder: where the services lie. */
  root: string;
  /** Where the person stands: relative paths start here. */
  cwd: string;
  /** Address of the mesh, host:port. */
  server: string;
  /** The data folder, absolute. */
  data: string;
  format: Format;
  terminal: Terminal;
  /** A client of a public service at `server`, or at another address (host:port or unix:/path). */
  connect<S extends DescService>(service: S, address?: string): Promise<ReturnType<typeof connectClient<S>>>;
};

export type Terminal = {
  /** Data, to stdout. */
  out(text: string): void;
  /** Talk and progress, to stderr. */
  talk(text: string): void;
  /** Paints where the terminal takes colours; the words must carry the meaning without it. */
  paint(style: "bold" | "dim" | "red" | "green" | "yellow", text: string): string;
  /** stdout is a terminal. */
  interactive: boolean;
};
