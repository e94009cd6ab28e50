// The commands: name, one sentence, and the module that is imported only when the command is called or asked for help.
import type { CommandModule } from "./terminal/door.ts";

export type CommandEntry = { name: string; summary: string; load: () => Promise<CommandModule> };

export const COMMANDS: readonly CommandEntry[] = [
  { name: "dev", summary: "start a mesh on this machine", load: () => import("./commands/dev.ts") },
  { name: "stop", summary: "end the mesh of a data folder", load: () => import("./commands/stop.ts") },
  {
    name: "status",
    summary: "show the parts of the mesh and how they are",
    load: () => import("./commands/status.ts"),
  },
  {
    name: "check",
    summary: "find out what is wrong with this machine or mesh",
    load: () => import("./commands/check.ts"),
  },
  { name: "test", summary: "run all tests", load: () => import("./commands/test.ts") },
];
