// The drift service: judges what the mesh's models do.
import { runService } from "#kernel/process/run.ts";
import { compose } from "./compose.ts";

await runService("drift", compose);
