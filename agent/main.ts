// The agent's process: started by `driftmesh dev`, ended by its socket's Stop or a signal.
import { runService } from "#kernel/process/run.ts";
import { composeAgent } from "./compose.ts";

await runService("agent", composeAgent);
