// The world outside: rows, truths, and what sidecars and gateways write of them.
// T1 A day of event time is DAY_VIRTUAL_MS of virtual time, in TICKS ticks; every serving replica flushes one pane a tick, with rows or without.
// T2 The truth has regimes: a version fitted to the present one scores honestly, one fitted to another is off by OFF. A run fits to what is true when it runs.
// T3 What was published is the only truth for the drift service; a replica that died took its unflushed rows along.
import { create, toBinary } from "@bufbuild/protobuf";
import type { VirtualClock } from "#kernel/base/clock.ts";
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Pane, PaneCell } from "#kernel/domain/pane.ts";
import { profileFrom } from "#kernel/domain/profile-build.ts";
import { cellsOf, DAY_MS, numericBin, type Profile } from "#kernel/domain/profile.ts";
import { type RouteState, SUBJECTS } from "#kernel/domain/state.ts";
import type { Publication } from "#kernel/store/ports.ts";
import { LabelBatchSchema, RecordBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { encodePane } from "../../drift/panes/door.ts";
import type { Machine, Serving } from "./agent.ts";
import type { SimLog } from "./store.ts";

export const DAY_VIRTUAL_MS = 12_000;
const TICKS = 2;
const ROWS = 40;
const OFF = 0.35;
const UNLABELLED = 0.05;
const HISTORY_DAYS = 14;
/** Event time of the first live day. */
export const DAY0_MS = Math.floor(1_000_000_000_000 / DAY_MS) * DAY_MS;

type Row = { x: number; truth: number; label: number };

export type TrafficOptions = {
  time: VirtualClock;
  rand: Rand;
  machine: Machine;
  records: SimLog;
  feedback: SimLog;
  panes: SimLog;
  routes: () => RouteState[];
  /** Chance that a message is stored again later under the same id. */
  twice: () => number;
};

export class Traffic {
  /** Which truth holds; a change makes champions worse. */
  regime = 0;
  /** Regime by profile: what each version learned. */
  readonly #learned = new Map<string, { regime: number; profile: Profile }>();
  readonly #options: TrafficOptions;
  #tick = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  /** Event time now. */
  get eventMs(): number {
    return DAY0_MS + (this.#tick * DAY_MS) / TICKS;
  }

  /** A profile learned on the days before now; `behind` fits to the truth before this one. */
  learn(behind: boolean): Uint8Array {
    const regime = behind ? this.regime - 1 : this.regime;
    const rows: { row: Row; eventMs: number }[] = [];
    for (let day = -HISTORY_DAYS; day < 0; day += 1)
      for (let i = 0; i < ROWS * TICKS; i += 1)
        rows.push({ row: this.#row(), eventMs: this.eventMs + day * DAY_MS + (i * DAY_MS) / (ROWS * TICKS) });
    const profile = profileFrom({
      columns: [{ name: "x", kind: "number", values: rows.map(({ row }) => row.x) }],
      labels: rows.map(({ row }) => row.label),
      scores: rows.map(({ row }) => scoreOf(row, this.regime === regime)),
      eventMs: rows.map(({ eventMs }) => eventMs),
      scoreKind: "probability",
    });
    const bytes = new TextEncoder().encode(canonicalJson(profile));
    this.#pending.push({ regime, profile });
    return bytes;
  }
  readonly #pending: { regime: number; profile: Profile }[] = [];

  /** Says under which hash the last learned profile is kept. */
  learnedAs(profileSha256: string): void {
    const newest = this.#pending.pop();
    if (newest !== undefined) this.#learned.set(profileSha256, newest);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { time } = this.#options;
    while (!signal.aborted) {
      await time.sleep(DAY_VIRTUAL_MS / TICKS, signal).catch(() => undefined);
      if (signal.aborted) return;
      for (const route of this.#options.routes()) await this.#serve(route);
      this.#tick += 1;
    }
  }

  async #serve(route: RouteState): Promise<void> {
    const { machine, rand } = this.#options;
    const live = [...machine.serving].filter(
      ({ wanted }) => wanted.load.model === route.model && wanted.scope === route.scope,
    );
    const champion = route.arms.find(({ weight }) => weight === 100)?.version ?? route.arms[0]?.version ?? 0;
    const servers = live.filter(({ wanted }) => wanted.load.version === champion);
    const rows = servers.length === 0 ? [] : Array.from({ length: ROWS }, () => this.#row());
    for (const server of live) {
      const place = servers.indexOf(server);
      await this.#flush(server, route, place < 0 ? [] : rows.filter((_, k) => k % servers.length === place));
    }
    const labels = this.#unsent.splice(0);
    for (const { ordinal, boot, firstRow, values } of labels) {
      const known = values.flatMap((value, i) =>
        rand.next() < UNLABELLED ? [] : [{ boot, number: BigInt(firstRow + i), value, eventTimeMs: 0n }],
      );
      const payload = toBinary(LabelBatchSchema, create(LabelBatchSchema, { track: ordinal, labels: known }));
      await this.#publish(this.#options.feedback, {
        subject: SUBJECTS.feedback(ordinal),
        id: `fb/${ordinal}/${boot}/${firstRow}`,
        payload,
      });
    }
  }
  readonly #unsent: { ordinal: number; boot: number; firstRow: number; values: number[] }[] = [];

  /** What a sidecar writes of a tick: its pane, and its rows as records; the truth comes a tick later. */
  async #flush(server: Serving, route: RouteState, rows: readonly Row[]): Promise<void> {
    const { wanted } = server;
    const learned = this.#learned.get(wanted.load.profileSha256);
    if (learned === undefined) return;
    const { ordinal, boot, load } = wanted;
    const [startMs, watermarkMs, firstRow] = [this.eventMs, this.eventMs + DAY_MS / TICKS, server.rows + 1];
    server.panes += 1;
    server.rows += rows.length;
    const pane: Pane = {
      track: ordinal,
      boot,
      number: server.panes,
      firstRow,
      rows: rows.length,
      dropped: 0,
      suppressed: 0,
      watermarkMs,
      cells: rows.length === 0 ? [] : [this.#cell(load.version, rows, learned, startMs)],
    };
    await this.#publish(this.#options.panes, {
      subject: SUBJECTS.pane(ordinal, boot),
      id: `pane/${ordinal}/${boot}/${pane.number}`,
      payload: encodePane(pane),
    });
    // What a strict node records and is told stays there.
    if (route.scope !== "open") return;
    const other = this.#otherArm(route, load.version);
    const honest = learned.regime === this.regime;
    const records = create(RecordBatchSchema, {
      track: ordinal,
      boot,
      batch: BigInt(server.panes),
      firstRow: BigInt(firstRow),
      rows: rows.length,
      version: load.version,
      numberedTotal: BigInt(server.rows),
      watermarkMs: BigInt(watermarkMs),
      eventBaseMs: BigInt(startMs),
      eventDeltaMs: rows.map((_, i) => BigInt(i * 60_000)),
      score: rows.map((row) => scoreOf(row, honest)),
      otherVersion: other?.version ?? 0,
      otherScore: other === undefined ? [] : rows.map((row) => scoreOf(row, other.regime === this.regime)),
      columns: [{ numbers: rows.map(({ x }) => x), texts: [] }],
    });
    await this.#publish(this.#options.records, {
      subject: SUBJECTS.records(ordinal, boot),
      id: `rec/${ordinal}/${boot}/${server.panes}`,
      payload: toBinary(RecordBatchSchema, records),
    });
    if (rows.length > 0) this.#unsent.push({ ordinal, boot, firstRow, values: rows.map(({ label }) => label) });
  }

  #cell(
    version: number,
    rows: readonly Row[],
    { regime, profile }: { regime: number; profile: Profile },
    startMs: number,
  ): PaneCell {
    const features = profile.features.map((bins) => new Array<number>(cellsOf(bins)).fill(0));
    const score = new Array<number>(profile.score.edges.length + 2).fill(0);
    for (const row of rows) {
      const bins = profile.features[0];
      if (bins?.kind === "number") add(features[0], numericBin(bins.edges, row.x));
      add(score, numericBin(profile.score.edges, scoreOf(row, regime === this.regime)));
    }
    return { startMs, version, rows: rows.length, features, score };
  }

  /** The other arm of a shadow or a probation, when a replica of it serves. */
  #otherArm(route: RouteState, version: number): { version: number; regime: number } | undefined {
    for (const { wanted } of this.#options.machine.serving) {
      const { load, scope } = wanted;
      if (load.model !== route.model || scope !== route.scope || load.version === version) continue;
      if (route.shadow?.version !== load.version) continue;
      const learned = this.#learned.get(load.profileSha256);
      if (learned !== undefined) return { version: load.version, regime: learned.regime };
    }
    return undefined;
  }

  async #publish(log: SimLog, publication: Publication): Promise<void> {
    const { rand, time, twice } = this.#options;
    await log.append("sidecar", publication);
    if (rand.next() < twice()) void time.sleep(rand.below(30_000)).then(() => log.append("sidecar", publication));
  }

  #row(): Row {
    const { rand } = this.#options;
    const truth = 0.1 + 0.8 * rand.next();
    const x = rand.next() + rand.next() + rand.next();
    return { x, truth, label: rand.next() < truth ? 1 : 0 };
  }
}

/** What a version answers: the truth, or beside it (T2). */
function scoreOf({ truth }: Row, honest: boolean): number {
  return honest ? truth : Math.max(0.02, Math.min(0.98, truth < 0.5 ? truth + OFF : truth - OFF));
}

function add(cells: number[] | undefined, bin: number): void {
  if (cells !== undefined) cells[bin] = (cells[bin] ?? 0) + 1;
}
