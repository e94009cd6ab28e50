// The one table of error codes: stable code, gRPC code, retry advice, what to do.
// E1 A code never changes its meaning. E2 The docs page, CLI hints and retries come from here.
// Ranges: 1 input and descriptions · 2 names and states · 3 inference · 4 feedback · 5 runs and artifacts · 6 machine and store · 7 not built.

/** Numbers of gRPC status codes. */
export const GRPC = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
export type GrpcCode = (typeof GRPC)[keyof typeof GRPC];

/** `never`: the same call fails again. `later`: wait and repeat. `now`: repeat at once, elsewhere if possible. */
export type Retry = "never" | "later" | "now";
export type FaultRow = { code: GrpcCode; retry: Retry; says: string; fix: string };

export const FAULTS = {
  "DM-1001": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the description has mistakes",
    fix: "mend each named field; `driftmesh explain` shows what a field means",
  },
  "DM-1002": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "a field of the request is missing or wrong",
    fix: "mend the named field",
  },
  "DM-1003": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "a page token is not one of ours",
    fix: "start again without page_token",
  },
  "DM-1004": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the file cannot be read as what it should be",
    fix: "check the path and the format",
  },
  "DM-2001": { code: GRPC.NOT_FOUND, retry: "never", says: "no such model", fix: "`driftmesh get models` lists them" },
  "DM-2002": {
    code: GRPC.NOT_FOUND,
    retry: "never",
    says: "no such version or alias",
    fix: "`driftmesh get versions` lists them",
  },
  "DM-2003": {
    code: GRPC.NOT_FOUND,
    retry: "never",
    says: "no such deployment",
    fix: "`driftmesh get deployments --all` lists them",
  },
  "DM-2004": { code: GRPC.NOT_FOUND, retry: "never", says: "no such node", fix: "`driftmesh get nodes` lists them" },
  "DM-2005": {
    code: GRPC.NOT_FOUND,
    retry: "never",
    says: "no such run, rollout, episode or decision",
    fix: "`driftmesh get runs|rollouts|episodes` lists them",
  },
  "DM-2006": {
    code: GRPC.ALREADY_EXISTS,
    retry: "never",
    says: "the name is taken by another description",
    fix: "choose another name",
  },
  "DM-2007": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the state does not allow this",
    fix: "look at the state and its reason",
  },
  "DM-2008": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the offer has expired",
    fix: "request the deployment again",
  },
  "DM-2009": {
    code: GRPC.RESOURCE_EXHAUSTED,
    retry: "later",
    says: "the deployment queue is full",
    fix: "release deployments or wait",
  },
  "DM-2010": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "strict mode needs a node",
    fix: "name the node whose folder may hold the values: --node NAME",
  },
  "DM-2011": { code: GRPC.NOT_FOUND, retry: "never", says: "no such blob", fix: "upload it again" },
  "DM-2012": {
    code: GRPC.ABORTED,
    retry: "now",
    says: "somebody else changed it at the same time",
    fix: "repeat the call",
  },
  "DM-3001": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "a tensor does not fit the model",
    fix: "compare with ModelMetadata; the message names the tensor",
  },
  "DM-3002": {
    code: GRPC.NOT_FOUND,
    retry: "never",
    says: "nothing by this name is served here",
    fix: "`driftmesh get deployments` shows what is served",
  },
  "DM-3003": {
    code: GRPC.UNAVAILABLE,
    retry: "later",
    says: "no ready replica",
    fix: "wait; `driftmesh get replicas` shows why",
  },
  "DM-3004": {
    code: GRPC.RESOURCE_EXHAUSTED,
    retry: "later",
    says: "the replica is full",
    fix: "send less at once, or ask for more replicas",
  },
  "DM-3005": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "a strict deployment is served only at its own endpoint",
    fix: "use the endpoint in its instructions: `driftmesh describe deployment ID`",
  },
  "DM-3006": {
    code: GRPC.INTERNAL,
    retry: "never",
    says: "the model failed on this input",
    fix: "the message says what the runtime said",
  },
  "DM-3007": {
    code: GRPC.DEADLINE_EXCEEDED,
    retry: "later",
    says: "the deadline passed first",
    fix: "give more time or send fewer rows",
  },
  "DM-3008": {
    code: GRPC.RESOURCE_EXHAUSTED,
    retry: "never",
    says: "the message is larger than the limit",
    fix: "send fewer rows at once",
  },
  "DM-4001": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the inference id is malformed",
    fix: "send driftmesh_inference_id exactly as the answer had it",
  },
  "DM-4002": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the inference id was not made by this mesh",
    fix: "send driftmesh_inference_id exactly as the answer had it",
  },
  "DM-4003": {
    code: GRPC.UNAVAILABLE,
    retry: "later",
    says: "the label could not be made durable",
    fix: "send it again; repeats are harmless",
  },
  "DM-5001": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the artifact is not a model that can be loaded",
    fix: "check that the file is ONNX",
  },
  "DM-5002": {
    code: GRPC.INVALID_ARGUMENT,
    retry: "never",
    says: "the features do not fit the signature",
    fix: "list a feature for each input, or one per column of the only input",
  },
  "DM-5003": {
    code: GRPC.DATA_LOSS,
    retry: "never",
    says: "the content has another hash than was said",
    fix: "upload it again",
  },
  "DM-5004": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the training failed",
    fix: "read the run's log: `driftmesh describe run ID`",
  },
  "DM-6001": {
    code: GRPC.UNAVAILABLE,
    retry: "later",
    says: "the store does not answer",
    fix: "wait; `driftmesh status` shows which part is down",
  },
  "DM-6002": { code: GRPC.UNAVAILABLE, retry: "later", says: "no leader at the moment", fix: "wait some seconds" },
  "DM-6003": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the nats-server is missing or too old",
    fix: "install one of those the message names",
  },
  "DM-6004": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the port is taken",
    fix: "stop the other program or choose another --port",
  },
  "DM-6005": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "this data folder is in use by another mesh",
    fix: "`driftmesh stop` there, or choose another --data",
  },
  "DM-6006": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "only loopback addresses are allowed",
    fix: "leave --host out; identity and TLS come with a later release",
  },
  "DM-6007": {
    code: GRPC.UNAVAILABLE,
    retry: "later",
    says: "no mesh answers at this address",
    fix: "start one: `driftmesh dev`, or name it with --server",
  },
  "DM-6008": {
    code: GRPC.INTERNAL,
    retry: "never",
    says: "internal error",
    fix: "the log of the service has the cause",
  },
  "DM-6009": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "a stream or bucket exists with other settings",
    fix: "the message names the settings; another program uses the name, or it was made by hand",
  },
  "DM-6010": {
    code: GRPC.DATA_LOSS,
    retry: "never",
    says: "a file of the store is damaged",
    fix: "check the disk; the message names the file",
  },
  "DM-6011": {
    code: GRPC.RESOURCE_EXHAUSTED,
    retry: "later",
    says: "the store takes no more: its disk or its quota is full",
    fix: "make room on the disk or raise the quota; after a full disk nats-server must be started again before it writes",
  },
  "DM-6012": {
    code: GRPC.UNAVAILABLE,
    retry: "later",
    says: "the nats-server refuses the credentials",
    fix: "put user and password right in the server's configuration or in ours; the mesh goes on dialling and recovers by itself",
  },
  "DM-6013": {
    code: GRPC.DATA_LOSS,
    retry: "never",
    says: "the backup is not whole",
    fix: "take another backup file: this one was cut off or changed",
  },
  "DM-6014": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "the backup is of a newer driftmesh",
    fix: "restore it with the version that the message names, or a later one",
  },
  "DM-6015": {
    code: GRPC.FAILED_PRECONDITION,
    retry: "never",
    says: "a backup goes into an empty place only",
    fix: "name a folder that does not exist yet: `driftmesh restore FILE --data NEW`",
  },
  "DM-7001": {
    code: GRPC.UNIMPLEMENTED,
    retry: "never",
    says: "this is not built yet",
    fix: "the message says what works instead",
  },
} as const satisfies Record<`DM-${number}`, FaultRow>;

export type FaultCode = keyof typeof FAULTS;
