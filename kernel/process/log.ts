// One JSON object per line on stderr. L1 The event name is fixed ("area.what-happened"); what varies goes into fields.
// L2 Lines are written synchronously: the last line before a crash is there.
import { destination, pino, type DestinationStream, type Logger as PinoLogger } from "pino";

export type Fields = Record<string, unknown>;

/** Writes events; a child adds its fields to each line. */
export type Logger = {
  debug(event: string, fields?: Fields): void;
  info(event: string, fields?: Fields): void;
  warn(event: string, fields?: Fields): void;
  error(event: string, fields?: Fields): void;
  child(fields: Fields): Logger;
};

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The log of a service; `to` is where lines go, stderr by default. */
export function createLogger(service: string, level: LogLevel = "info", to?: DestinationStream): Logger {
  const options = {
    level,
    base: { service, pid: process.pid },
    messageKey: "event",
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return wrap(pino(options, to ?? destination({ fd: 2, sync: true })));
}

/** Says nothing: for tests and tools. */
export function silentLogger(): Logger {
  const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
  return silent;
}

function wrap(inner: PinoLogger): Logger {
  return {
    debug: (event, fields) => inner.debug(plain(fields), event),
    info: (event, fields) => inner.info(plain(fields), event),
    warn: (event, fields) => inner.warn(plain(fields), event),
    error: (event, fields) => inner.error(plain(fields), event),
    child: (fields) => wrap(inner.child(plain(fields))),
  };
}

function plain(fields: Fields | undefined): Fields {
  const out: Fields = {};
  for (const [name, value] of Object.entries(fields ?? {})) {
    if (value instanceof Error) {
      out[name] = { name: value.name, message: value.message, stack: value.stack, cause: causeOf(value) };
    } else out[name] = typeof value === "bigint" ? value.toString() : value;
  }
  return out;
}

function causeOf(error: Error): string | undefined {
  return error.cause instanceof Error ? `${error.cause.name}: ${error.cause.message}` : undefined;
}
