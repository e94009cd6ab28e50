// States move along ARROWS only, begin where they may, and are forgotten only at an end.
// A1 The leader takes one arrow per write. A2 The drift service saves the newest level of what several messages decided: an episode may have
//    taken more than one arrow between two writes, never one back.
import { ARROWS } from "#kernel/domain/state.ts";
import { fieldOf } from "../trace.ts";
import { type Checker, type KeyChange, onWrites } from "./checker.ts";

type Kind = keyof typeof ARROWS | "episode";
type Rule = { kind: Kind; of: RegExp; field: string; first: readonly string[]; end: readonly string[] };

const RULES: readonly Rule[] = [
  {
    kind: "deployment",
    of: /^dep\..*\.status$/,
    field: "state",
    first: ["Offered", "Pending"],
    end: ["Expired", "Released"],
  },
  { kind: "workload", of: /^workload\./, field: "phase", first: ["Starting"], end: ["Destroyed"] },
  { kind: "replica", of: /^replica\./, field: "phase", first: ["Wanted"], end: ["Gone", "Lost"] },
  { kind: "run", of: /^run\./, field: "phase", first: ["Pending"], end: ["Succeeded", "Failed", "Cancelled"] },
  {
    kind: "rollout",
    of: /^rollout\./,
    field: "stage",
    first: ["Preparing"],
    end: ["Promoted", "Rejected", "RolledBack"],
  },
  { kind: "episode", of: /^episode\./, field: "state", first: ["Suspect", "Confirmed", "Closed"], end: ["Closed"] },
];

const EPISODE_ARROWS: Readonly<Record<string, readonly string[]>> = {
  Suspect: ["Confirmed", "Closed"],
  Confirmed: ["Closed"],
  Closed: [],
};

export const arrows: Checker = {
  name: "arrows",
  promises: "states move only along the arrows of kernel/domain/state.ts",
  begin: () => onWrites((changes) => changes.flatMap(stepOf)),
};

function stepOf(change: KeyChange): string[] {
  const rule = RULES.find(({ of }) => of.test(change.key));
  if (rule === undefined) return [];
  const from = wordOf(fieldOf(change.before, rule.field));
  const to = wordOf(fieldOf(change.after, rule.field));
  const says = judge(rule, from, to);
  return says === undefined ? [] : [`${change.by} wrote ${change.key}: ${says}`];
}

function judge({ kind, first, end }: Rule, from: string | undefined, to: string | undefined): string | undefined {
  if (from === undefined) return to === undefined || first.includes(to) ? undefined : `a ${kind} begins as ${to}`;
  if (to === undefined) return end.includes(from) ? undefined : `a ${kind} is forgotten while ${from}`;
  if (from === to) return undefined;
  const legal: Readonly<Record<string, readonly string[]>> = kind === "episode" ? EPISODE_ARROWS : ARROWS[kind];
  return legal[from]?.includes(to) === true ? undefined : `no arrow ${from} -> ${to} for a ${kind}`;
}

const wordOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
