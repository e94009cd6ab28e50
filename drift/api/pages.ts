// Page tokens of the Drift service: the place of the next item, signed with what was asked, so that a token of another list is refused.
import { base32, fromBase32, sha256Hex } from "#kernel/base/bytes.ts";
import { MeshError } from "#kernel/fault/error.ts";

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

/** The page of `items` that `token` names; DM-1003 when it is none of ours for `asked`. */
export function pageOf<T>(
  items: readonly T[],
  page: { asked: string; size: number; token: string },
): { items: readonly T[]; nextPageToken: string } {
  const from = page.token === "" ? 0 : placeIn(page.token, page.asked);
  const to = from + Math.min(PAGE_MAX, page.size === 0 ? PAGE_DEFAULT : page.size);
  return { items: items.slice(from, to), nextPageToken: to < items.length ? tokenOf(to, page.asked) : "" };
}

const tokenOf = (place: number, asked: string): string =>
  base32(new TextEncoder().encode(`${place}/${sha256Hex(asked).slice(0, 8)}`));

function placeIn(token: string, asked: string): number {
  const text = new TextDecoder().decode(fromBase32(token) ?? new Uint8Array());
  const match = /^(\d{1,9})\/([0-9a-f]{8})$/.exec(text);
  if (match === null || match[2] !== sha256Hex(asked).slice(0, 8)) {
    throw new MeshError("DM-1003", "the page token is not one of this list", {
      violations: [
        { field: "page_token", description: "use next_page_token of the answer before, with the same request" },
      ],
    });
  }
  return Number(match[1]);
}
