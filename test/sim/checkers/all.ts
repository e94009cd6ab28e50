// The checkers of every simulation, in the order in which their findings are told.
import { accounts } from "./accounts.ts";
import { absence } from "./absence.ts";
import { arrows } from "./arrows.ts";
import { calm } from "./calm.ts";
import type { Checker } from "./checker.ts";
import { once } from "./once.ts";
import { endings, promises } from "./promises.ts";
import { fenced, surge } from "./replicas.ts";
import { champions, routes } from "./tracks.ts";

export const CHECKERS: readonly Checker[] = [
  arrows,
  promises,
  once,
  champions,
  routes,
  surge,
  fenced,
  absence,
  calm,
  accounts,
  endings,
];
