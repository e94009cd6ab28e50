// Makes the streams and buckets, and refuses servers and settings that do not keep our promises. Idempotent; safe from many processes at once.
// B1 Old servers ignore fields they do not know, silently: the version is checked first and every setting is read back and compared.
// B2 An existing stream is never changed or deleted here: a mismatch names the settings and stops the start.
import { MeshError } from "../../fault/error.ts";
import { apiFault, CODE, type Deps, type JetStreamApi, number, object, type StreamState } from "./api.ts";
import type { Asset } from "./assets.ts";
import { atLeast, FLOOR, howToInstall } from "./version.ts";

/** JetStream API level that brings atomic batches and expectations about other subjects (2.12). */
const FLOOR_API_LEVEL = 2;
/** The operator's to change later, as long as they are set. */
const GROWABLE = new Set(["max_bytes", "num_replicas"]);

/** Throws DM-6003 naming the version found and what to install. */
export async function checkServer(deps: Deps, api: JetStreamApi): Promise<void> {
  const { version, apiLevel } = deps.link.server;
  if (!atLeast(version, FLOOR)) throw new MeshError("DM-6003", `nats-server ${version} is too old. ${howToInstall()}`);
  const answer = await api.call("INFO");
  if (answer.kind === "error") {
    throw new MeshError(
      "DM-6003",
      `nats-server ${version} answers, but JetStream is not enabled for this account (${answer.error.description})`,
    );
  }
  const level = Math.max(apiLevel, number(object(answer.body["api"])["level"]));
  if (level < FLOOR_API_LEVEL) {
    throw new MeshError(
      "DM-6003",
      `nats-server ${version} announces JetStream API level ${level}, ${FLOOR_API_LEVEL} is needed: a member of the cluster is too old. ${howToInstall()}`,
    );
  }
}

/** Makes what is missing and compares what is there (B2). */
export async function ensure(api: JetStreamApi, assets: readonly Asset[]): Promise<void> {
  for (const asset of assets) {
    const found = (await api.stream(asset.name)) ?? (await create(api, asset));
    const wrong = differences(asset, found);
    if (wrong.length > 0)
      throw new MeshError("DM-6009", `stream ${asset.name} exists with other settings: ${wrong.join("; ")}`);
  }
}

async function create(api: JetStreamApi, asset: Asset): Promise<StreamState> {
  const answer = await api.call(`STREAM.CREATE.${asset.name}`, {
    ...asset.config,
    ...(asset.firstSeq === undefined ? {} : { first_seq: asset.firstSeq }),
    name: asset.name,
    subjects: asset.subjects,
  });
  if (answer.kind === "error" && answer.error.errCode !== CODE.streamNameInUse) {
    throw apiFault(`stream ${asset.name} could not be made`, answer.error);
  }
  const state = await api.stream(asset.name);
  if (state === undefined) throw new MeshError("DM-6001", `stream ${asset.name} was made and is not there`);
  return state;
}

/** Settings that differ, as sentences; a field the server leaves out counts as its zero. */
function differences(asset: Asset, found: StreamState): string[] {
  const wanted: Record<string, unknown> = { ...asset.config, subjects: [...asset.subjects] };
  const out: string[] = [];
  for (const [field, want] of Object.entries(wanted)) {
    const have = found.config[field] ?? (typeof want === "boolean" ? false : typeof want === "number" ? 0 : undefined);
    if (GROWABLE.has(field) && typeof have === "number" && have > 0) continue;
    if (JSON.stringify(have) !== JSON.stringify(want))
      out.push(`${field} is ${JSON.stringify(have)}, wanted ${JSON.stringify(want)}`);
  }
  return out;
}
