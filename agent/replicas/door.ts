// What the rest of the agent may use of replicas.
export { Replicas, type Seen as SeenReplica, type Wanted as WantedReplica } from "./replicas.ts";
