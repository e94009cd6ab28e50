// agent.json: what the agent of a data folder leaves for the command line and for the next agent.
// H1 A process is named by pid and the moment it began: a pid used again by another program is not ours.

/** A process that cannot be confused with a later one of the same pid; `began` is the operating system's own text. */
export type ProcessMark = { pid: number; began: string };

/** The file's content. Ports are chosen once and kept over restarts. */
export type HostFile = {
  format: 1;
  agent: ProcessMark;
  /** Path of the agent's unix socket. */
  socket: string;
  /** Port of the gateway. */
  port: number;
  ports: Readonly<Record<string, number>>;
  children: readonly (ProcessMark & { name: string })[];
  /** The highest token seen: a lower one is refused after a restart too. */
  token: { epoch: string; term: string };
};

export const HOST_FILE = "agent.json";
/** Where an agent that could not start says why. */
export const START_FILE = "start.json";

/** Why an agent did not start. */
export type StartFailure = { fault: string; message: string };

/** The content of agent.json, or undefined when it is not one of this format. */
export function parseHostFile(text: string): HostFile | undefined {
  try {
    const value = JSON.parse(text) as Partial<HostFile>;
    const whole = value.format === 1 && typeof value.socket === "string" && Array.isArray(value.children);
    return whole ? (value as HostFile) : undefined;
  } catch {
    return undefined;
  }
}

/** A named share of a machine. */
export type Share = { name: string; cpu: number; memoryBytes: number };

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** `512Mi`, `1Gi`, `1.5G` or plain bytes, as Kubernetes writes them; undefined when it is none. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)$/.exec(text);
  return match === null ? undefined : Math.round(Number(match[1]) * (UNITS[match[2] ?? ""] ?? 1));
}

/** `clinic:cpu=1,memory=1Gi`; what is left out comes from `rest`. The problem is a sentence. */
export function parseShare(text: string, rest: Omit<Share, "name">): { share: Share } | { problem: string } {
  const [name = "", ...parts] = text.split(":");
  if (!/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(name))
    return { problem: `node name "${name}" must be lower case letters, digits and -, at most 32` };
  const share = { name, ...rest };
  for (const part of parts.join(":").split(",").filter(Boolean)) {
    const [key = "", value = ""] = part.split("=");
    if (key === "cpu" && /^\d+(\.\d+)?$/.test(value) && Number(value) > 0) share.cpu = Number(value);
    else if (key === "memory" && (parseBytes(value) ?? 0) > 0) share.memoryBytes = parseBytes(value) ?? 0;
    else return { problem: `node ${name}: "${part}" is not cpu=NUMBER or memory=SIZE, such as cpu=1,memory=1Gi` };
  }
  return { share };
}
