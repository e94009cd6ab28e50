// Which protocol a connection speaks: HTTP/2 with prior knowledge begins with "PRI", and no method of HTTP/1.1 does.
// F1 What was read is put back. F2 A connection that says nothing is closed after FIRST_BYTES_MS.
import type { Socket } from "node:net";
import { systemClock } from "../base/clock.ts";

const FIRST_BYTES_MS = 10_000;
const PREFACE = "PRI";

/** Reads until the protocol is known and puts the bytes back. */
export function decide(socket: Socket, decided: (protocol: "h1" | "h2") => void): void {
  const known = new AbortController();
  socket.once("close", () => known.abort());
  void systemClock.sleep(FIRST_BYTES_MS, known.signal).then(
    () => socket.destroy(),
    () => undefined,
  );
  const look = (): void => {
    const chunk: unknown = socket.read();
    if (!(chunk instanceof Uint8Array)) return;
    const start = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString("latin1", 0, PREFACE.length);
    socket.unshift(chunk);
    if (start.length < PREFACE.length && PREFACE.startsWith(start)) return;
    socket.off("readable", look);
    known.abort();
    decided(start === PREFACE ? "h2" : "h1");
  };
  socket.on("readable", look);
}
