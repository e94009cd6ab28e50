import { expect, test } from "vitest";
import { layerProblems } from "./layers.ts";

const planted = (path: string, specifier: string): string[] =>
  layerProblems([{ path, text: `import { x } from "${specifier}";\n` }]).map((p) => p.says);

test.each([
  ["gateway/route/pick.ts", "../../sidecar/serve/infer.ts", "leaves gateway/"],
  ["kernel/base/clock.ts", "../domain/ids.ts", "kernel/base may not import kernel/domain"],
  ["kernel/domain/ids.ts", "#proto/driftmesh/v1/model_pb.ts", "may not import proto"],
  ["sidecar/serve/infer.ts", "@nats-io/kv", "lives in kernel/store/nats/"],
  ["sidecar/serve/infer.ts", "left-pad", "has no home folder"],
  ["drift/join/ledger.ts", "../work/loop.ts", "only through its door.ts"],
])("%s may not import %s", (path, specifier, says) => {
  expect(planted(path, specifier)).toEqual([expect.stringContaining(says)]);
});

test.each([
  ["drift/join/ledger.ts", "../verdict/door.ts"],
  ["drift/compose.ts", "./work/loop.ts"],
  ["gateway/route/pick.ts", "#kernel/base/clock.ts"],
  ["kernel/rpc/connect.ts", "@connectrpc/connect"],
])("%s may import %s", (path, specifier) => {
  expect(planted(path, specifier)).toEqual([]);
});
