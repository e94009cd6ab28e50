// Owns the profiles at hand, by hash. A profile never changes, so what was read once stays.
import type { Profile } from "#kernel/domain/profile.ts";
import type { Blobs } from "#kernel/store/ports.ts";

const KEPT_MAX = 256;

export class Profiles {
  readonly #blobs: readonly Blobs[];
  readonly #known = new Map<string, Profile>();

  /** Looked for in this order. */
  constructor(...blobs: readonly Blobs[]) {
    this.#blobs = blobs;
  }

  get(sha256: string): Profile | undefined {
    return this.#known.get(sha256);
  }

  /** Reads it unless it is at hand; undefined while no store has it. */
  async load(sha256: string, signal?: AbortSignal): Promise<Profile | undefined> {
    const known = this.#known.get(sha256);
    if (known !== undefined || sha256 === "") return known;
    for (const blobs of this.#blobs) {
      const content = await blobs.get(sha256, signal);
      if (content === undefined) continue;
      const profile = JSON.parse(new TextDecoder().decode(content)) as Profile;
      if (this.#known.size >= KEPT_MAX) this.#forgetOldest();
      this.#known.set(sha256, profile);
      return profile;
    }
    return undefined;
  }

  #forgetOldest(): void {
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      return;
    }
  }
}
