// The streams and buckets of the mesh as nats-server must hold them.
// The server counts `max_bytes` of all streams against its own limit when a stream is made, so the sizes are shares of one total.
import { BUCKETS, STREAMS } from "../../domain/state.ts";
import type { Json } from "./api.ts";

export const BLOB_STREAM = "MESH_BLOB";
export const BLOB_SUBJECT = "mesh.blob";

/** A stream's settings; every field is compared with what the server says it has. */
export type Asset = {
  name: string;
  subjects: readonly string[];
  config: Json;
  /** Sequence of the first message when it is made; of no meaning afterwards. */
  firstSeq?: number;
};

const DAY_NS = 86_400e9;
const GIB = 2 ** 30;

const common = {
  retention: "limits",
  storage: "file",
  max_msgs: -1,
  max_msg_size: -1,
  max_consumers: -1,
  // Whoever may write one key could otherwise wipe a bucket with one header.
  allow_rollup_hdrs: false,
  deny_delete: true,
  sealed: false,
} as const;

function log(
  stream: { name: string; subjects: readonly string[] },
  days: number,
  windowMin: number,
  maxBytes: number,
  replicas: number,
): Asset {
  return {
    ...stream,
    config: {
      ...common,
      discard: "old",
      deny_purge: true,
      max_msgs_per_subject: -1,
      num_replicas: replicas,
      max_age: days * DAY_NS,
      max_bytes: maxBytes,
      duplicate_window: windowMin * 60e9,
    },
  };
}

function bucket(name: string, maxBytes: number, replicas: number): Asset {
  return {
    name: `KV_${name}`,
    subjects: [`$KV.${name}.>`],
    config: {
      // History 5, so that a write whose answer was lost can be found again. Full means refused, never an old key dropped.
      ...common,
      discard: "new",
      deny_purge: true,
      max_msgs_per_subject: 5,
      num_replicas: replicas,
      max_age: 0,
      max_bytes: maxBytes,
      duplicate_window: 120e9,
      allow_atomic: true,
      allow_direct: true,
    },
  };
}

/** Everything the mesh keeps in NATS. `replicas` is 1 on a laptop, 3 or 5 in a cluster. */
export function assets(replicas: number, totalGib: number): Asset[] {
  const share = (percent: number): number => Math.floor((totalGib * GIB * percent) / 100);
  return [
    bucket(BUCKETS.state, share(2), replicas),
    bucket(BUCKETS.drift, share(3), replicas),
    log(STREAMS.records, 30, 2, share(40), replicas),
    log(STREAMS.feedback, 60, 10, share(10), replicas),
    log(STREAMS.panes, 14, 2, share(10), replicas),
    log(STREAMS.events, 400, 2, share(5), replicas),
    {
      name: BLOB_STREAM,
      subjects: [`${BLOB_SUBJECT}.>`],
      config: {
        // Removing a blob purges its chunks; direct gets are safe because a chunk never changes.
        ...common,
        discard: "new",
        deny_purge: false,
        max_msgs_per_subject: 1,
        num_replicas: replicas,
        max_age: 0,
        max_bytes: share(30),
        duplicate_window: 120e9,
        allow_direct: true,
      },
    },
  ];
}
