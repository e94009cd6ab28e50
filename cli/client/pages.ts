// Reading lists to their end.

/** All items of a paged list: `list` is asked until there is no next token. */
export async function allPages<P extends { nextPageToken: string }, T>(
  list: (pageToken: string) => Promise<P>,
  items: (page: P) => readonly T[],
): Promise<T[]> {
  const all: T[] = [];
  for (let token = ""; ;) {
    const page = await list(token);
    all.push(...items(page));
    if (page.nextPageToken === "") return all;
    token = page.nextPageToken;
  }
}
