// The commands: name, one sentence, and the module that is imported only when the command is called or asked for help.
import type { CommandModule } from "./terminal/door.ts";

export type CommandEntry = { name: string; summary: string; load: () => Promise<CommandModule> };

export const COMMANDS: readonly CommandEntry[] = [
  { name: "dev", summary: "start a mesh on this machine", load: () => import("./commands/dev.ts") },
  { name: "stop", summary: "end the mesh of a data folder", load: () => import("./commands/stop.ts") },
  {
    name: "status",
    summary: "show the parts of the mesh and how they are",
    load: () => import("./commands/status.ts"),
  },
  {
    name: "check",
    summary: "find out what is wrong with this machine or mesh",
    load: () => import("./commands/check.ts"),
  },
  {
    name: "backup",
    summary: "copy a running mesh into one file",
    load: () => import("./commands/backup.ts"),
  },
  {
    name: "restore",
    summary: "make a data folder from a backup",
    load: () => import("./commands/restore.ts"),
  },
  { name: "test", summary: "run all tests", load: () => import("./commands/test.ts") },
  { name: "demo", summary: "play the whole story on real flights", load: () => import("./commands/demo.ts") },
  {
    name: "register",
    summary: "register a model: a description, or an ONNX file as it is",
    load: () => import("./commands/register.ts"),
  },
  { name: "find", summary: "find models by what they must do", load: () => import("./commands/find.ts") },
  {
    name: "deploy",
    summary: "deploy a model: request, acknowledge, wait until ready",
    load: () => import("./commands/deploy.ts"),
  },
  {
    name: "get",
    summary: "list models, versions, deployments, nodes, replicas, runs, rollouts, episodes",
    load: () => import("./commands/get.ts"),
  },
  { name: "describe", summary: "show everything known of one thing", load: () => import("./commands/describe.ts") },
  {
    name: "infer",
    summary: "ask a model, or print the call in another language",
    load: () => import("./commands/infer.ts"),
  },
  { name: "feedback", summary: "tell the truth of an inference", load: () => import("./commands/feedback.ts") },
  {
    name: "drift",
    summary: "show the verdict on a model, its panes, or replay a decision",
    load: () => import("./commands/drift.ts"),
  },
  { name: "retrain", summary: "order a retraining by hand", load: () => import("./commands/retrain.ts") },
  { name: "decommission", summary: "release a deployment", load: () => import("./commands/decommission.ts") },
  {
    name: "explain",
    summary: "explain a field of a description, or an error code",
    load: () => import("./commands/explain.ts"),
  },
];
