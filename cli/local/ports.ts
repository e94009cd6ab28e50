// Whether a port of this machine is free.
import { createServer } from "node:net";

/** False when a program listens there already, or we may not. */
export async function portIsFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once("error", () => resolve(false));
  server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  return await promise;
}
