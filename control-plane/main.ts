// The control plane as a process.
import { runService } from "#kernel/process/run.ts";
import { compose } from "./compose.ts";

await runService("control-plane", compose);
