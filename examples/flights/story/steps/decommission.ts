// Chapter 10: claims are released one by one; the workload is cached, comes back at once, and is destroyed after its grace.
import { DeploymentState } from "#proto/driftmesh/v1/deployments_pb.ts";
import { textAt, until, type World } from "../world.ts";

const NAME = "flight-minutes";

export async function decommission(world: World): Promise<void> {
  const { print, mesh, nowMs } = world;
  print.chapter("Decommission: cached when nobody claims it, back at once, destroyed after the grace");
  const workload = async (): Promise<{ phase: string; claims: number } | undefined> =>
    (await mesh.mesh.listWorkloads({ all: true })).workloads.find((w) => w.model === NAME);
  const first = textAt(await mesh.cli("deploy", NAME), "id");
  const second = textAt(await mesh.cli("deploy", `${NAME}:1`), "id");
  const asked = await mesh.inference.modelInfer({
    modelName: first,
    inputs: [{ name: "distance", datatype: "FP32", shape: [1n, 1n], contents: { fp32Contents: [606] } }],
  });
  const inferenceId = asked.parameters["driftmesh_inference_id"]?.parameterChoice;
  await mesh.cli("decommission", first);
  const still = await mesh.deployments.getDeployment({ id: second });
  const shared = await workload();
  print.holds(
    still.state === DeploymentState.READY && shared?.phase === "Serving",
    "while another deployment claims the version nothing stops",
  );
  await mesh.cli("decommission", second);
  const cached = await until(world, 10_000, async () => ((await workload())?.phase === "Cached" ? true : undefined));
  print.holds(cached === true, "the last release makes the workload Cached");
  const startMs = nowMs();
  const again = textAt(await mesh.cli("deploy", NAME), "id");
  print.line(
    `a new deployment within the grace was Ready after ${((nowMs() - startMs) / 1000).toFixed(2)} s, command included`,
  );
  const replicas = (await mesh.mesh.listReplicas({ all: true })).replicas.filter((r) => r.model === NAME);
  print.holds(replicas.length === 1, "it came from the cache: one replica was ever started");
  await mesh.cli("decommission", again);
  const destroyed = await until(world, 40_000, async () =>
    (await workload())?.phase === "Destroyed" ? true : undefined,
  );
  print.holds(destroyed === true, "after the next release and the grace it is Destroyed");
  if (inferenceId?.case === "stringParam") {
    const taken = await mesh.feedback.sendLabels({ labels: [{ inferenceId: inferenceId.value, row: 0, value: 61 }] });
    print.holds(taken.accepted === 1, "feedback for it is still taken");
  }
}
