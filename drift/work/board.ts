// Owns what readers see: the newest verdict of each track and its episodes, as they were saved, and how often they changed.
// O1 A reader that is slow gets the newest of each, never a queue.
import { Cell } from "#kernel/base/queue.ts";
import type { EpisodeState, TrackFact, VerdictState } from "#kernel/domain/state.ts";
import type { PaneDay } from "../panes/door.ts";

export type Told = { kind: "verdict"; verdict: VerdictState } | { kind: "episode"; episode: EpisodeState };
export type TrackSeen = { fact: TrackFact; days: readonly PaneDay[] };

export class Board {
  /** False while no worker has loaded what was saved. */
  ready = false;
  readonly #told = new Map<string, { told: Told; version: number }>();
  readonly #changes = new Cell(0);
  readonly #tracks = new Map<number, TrackSeen>();
  #version = 0;

  tell(told: Told): void {
    const key =
      told.kind === "verdict"
        ? `verdict.${told.verdict.track}`
        : `episode.${told.episode.track}.${told.episode.number}`;
    this.#version += 1;
    this.#told.delete(key);
    this.#told.set(key, { told, version: this.#version });
    this.#changes.set(this.#version);
  }

  see(track: number, seen: TrackSeen): void {
    this.#tracks.set(track, seen);
  }

  /** The tracks that a fact names. */
  tracks(): (TrackSeen & { track: number })[] {
    return [...this.#tracks].map(([track, seen]) => ({ track, ...seen }));
  }

  verdict(track: number): VerdictState | undefined {
    const told = this.#told.get(`verdict.${track}`)?.told;
    return told?.kind === "verdict" ? told.verdict : undefined;
  }

  /** By track, then number. */
  episodes(): EpisodeState[] {
    return [...this.#told.values()]
      .flatMap(({ told }) => (told.kind === "episode" ? [told.episode] : []))
      .sort((a, b) => a.track - b.track || a.number - b.number);
  }

  /** The newest of each, then every change (O1). */
  async *watch(signal: AbortSignal): AsyncGenerator<Told> {
    let seen = 0;
    while (!signal.aborted) {
      const { version } = this.#changes.get();
      const fresh = [...this.#told.values()].filter((entry) => entry.version > seen);
      for (const entry of fresh) {
        seen = Math.max(seen, entry.version);
        yield entry.told;
      }
      if (fresh.length === 0) await this.#changes.changed(version, signal);
    }
  }
}
