// Entry of a sidecar process.
import { runService } from "#kernel/process/run.ts";
import { compose } from "./compose.ts";

await runService("sidecar", compose);
