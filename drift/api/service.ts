// driftmesh.v1.Drift: reads what was decided. Scope `open` unless said; models and tracks are those that facts name.
import type { Clock } from "#kernel/base/clock.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { ConnectRouter, ServiceImpl } from "#kernel/rpc/connect.ts";
import { Drift as DriftService } from "#proto/driftmesh/v1/drift_pb.ts";
import type { Board, Drift, Told } from "../work/door.ts";
import { nearestWords } from "#kernel/base/nearest.ts";
import { pageOf } from "./pages.ts";
import { episodeMessage, eventMessage, paneMessage, undecided, verdictMessage } from "./wire.ts";

const REPLAY_MS = 120_000;

/** Adds the Drift service to a router. */
export function driftRoutes(drift: Drift, clock: Clock): (router: ConnectRouter) => void {
  return (router) => {
    router.service(DriftService, handlers(drift, clock));
  };
}

function handlers(drift: Drift, clock: Clock): ServiceImpl<typeof DriftService> {
  const { board } = drift;
  return {
    getVerdict({ model, scope }) {
      const { track, fact } = trackOf(board, model, scope);
      const verdict = board.verdict(track);
      return verdict === undefined ? undecided(track, fact) : verdictMessage(verdict);
    },
    listEpisodes({ model, scope, pageSize, pageToken }) {
      if (model !== "") trackOf(board, model, scope);
      const all = ready(board)
        .episodes()
        .filter((episode) => concerns(episode, model, scope));
      const page = pageOf(all, { asked: `episodes/${model}/${scope}`, size: pageSize, token: pageToken });
      return { episodes: page.items.map(episodeMessage), nextPageToken: page.nextPageToken };
    },
    async *watchDrift({ model, scope }, context) {
      if (model !== "") trackOf(board, model, scope);
      for await (const told of ready(board).watch(context.signal)) {
        if (concerns(subjectOf(told), model, scope)) yield eventMessage(told);
      }
    },
    listPanes({ model, scope, pageSize, pageToken }) {
      const { days } = trackOf(board, model, scope);
      const page = pageOf(days, { asked: `panes/${model}/${scope}`, size: pageSize, token: pageToken });
      return { panes: page.items.map(paneMessage), nextPageToken: page.nextPageToken };
    },
    async replay({ decision }, context) {
      const deadline = clock.deadline(REPLAY_MS);
      try {
        const { messages, ...rest } = await drift.replay(decision, AbortSignal.any([context.signal, deadline]));
        return { ...rest, messages: BigInt(messages) };
      } catch (error) {
        if (!deadline.aborted) throw error;
        throw new MeshError("DM-3007", `the replay of ${decision} took longer than ${REPLAY_MS / 1_000} s`, {
          cause: error,
        });
      }
    },
  };
}

function ready(board: Board): Board {
  if (!board.ready) throw new MeshError("DM-6002", "no drift worker leads yet; it loads what was saved");
  return board;
}

/** The track of a model in a scope; DM-2001 with near names when there is none. */
function trackOf(board: Board, model: string, asked: string): ReturnType<Board["tracks"]>[number] {
  const scope = asked === "" ? "open" : asked;
  const tracks = ready(board).tracks();
  const found = tracks.find(({ fact }) => fact.model === model && fact.scope === scope);
  if (found !== undefined) return found;
  const scopes = tracks.filter(({ fact }) => fact.model === model).map(({ fact }) => fact.scope);
  if (scopes.length > 0) {
    throw new MeshError(
      "DM-2001",
      `model "${model}" has no track in scope "${scope}"; it has ${scopes.toSorted().join(", ")}`,
    );
  }
  const near = nearestWords(
    model,
    tracks.map(({ fact }) => fact.model),
  );
  const hint = near.length > 0 ? `; did you mean ${near.join(" or ")}?` : "";
  throw new MeshError("DM-2001", `drift knows no model "${model}"${hint}`);
}

const subjectOf = (told: Told): { model: string; scope: string } =>
  told.kind === "verdict" ? told.verdict : told.episode;

/** An empty model means all; then an empty scope does too. */
function concerns(of: { model: string; scope: string }, model: string, scope: string): boolean {
  if (model === "") return scope === "" || of.scope === scope;
  return of.model === model && of.scope === (scope === "" ? "open" : scope);
}
