// The gateway as a process.
import { runService } from "#kernel/process/run.ts";
import { compose } from "./compose.ts";

await runService("gateway", compose);
