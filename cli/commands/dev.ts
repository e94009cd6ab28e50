// `driftmesh dev`: a mesh on this machine, in the foreground until Ctrl-C.
import { type Command, type Context, repeatable, wholeNumber } from "../terminal/door.ts";
import { nodesFrom, refuseBeyondLoopback, type RunningMesh, startMesh, stopMesh } from "../local/door.ts";

type Options = { port: number; node: string[]; nats?: string; host?: string; detach?: boolean };

export function describe(command: Command): void {
  command
    .option("--port <number>", "port of everything a user needs; 0 chooses a free one", wholeNumber(0, 65_535), 4747)
    .option(
      "--node <name:shares>",
      "a node with its share, such as clinic:cpu=1,memory=1Gi (repeatable)",
      repeatable,
      [],
    )
    .option("--nats <url>", "use this NATS instead of starting a nats-server")
    .option("--host <address>", "address to listen on: loopback only")
    .option("--detach", "return when it is ready; end it with `driftmesh stop`")
    .addHelpText("after", "\nExample:\n  driftmesh dev --node local --node clinic:cpu=1,memory=1Gi");
}

export async function run(context: Context, command: Command): Promise<number> {
  const options = command.opts<Options>();
  if (options.host !== undefined) refuseBeyondLoopback(options.host);
  const nodes = nodesFrom(options.node);
  const progress = progressLine(context);
  const mesh = await startMesh(context, { port: options.port, nodes, nats: options.nats }, progress.say).finally(
    progress.end,
  );
  if (context.format === "json" || context.format === "yaml")
    context.terminal.out(`${JSON.stringify(facts(context, mesh))}\n`);
  else if (context.format === "name") context.terminal.out(`${mesh.server}\n`);
  else
    context.terminal.out(
      welcome(
        context,
        mesh,
        nodes.map(({ name }) => name),
      ),
    );
  if (options.detach === true) return 0;
  return await foreground(context, mesh);
}

async function foreground(context: Context, mesh: RunningMesh): Promise<number> {
  const interrupted = Promise.withResolvers<"interrupted">();
  const onAbort = (): void => interrupted.resolve("interrupted");
  context.signal.addEventListener("abort", onAbort, { once: true });
  if (context.signal.aborted) onAbort();
  const ended = mesh.ended();
  const how = await Promise.race([interrupted.promise, ended]);
  if (how === "interrupted") {
    context.terminal.talk("\nstopping ...\n");
    await stopMesh(context);
  }
  const code = await ended;
  context.terminal.talk(
    code === 0 ? "the mesh has ended\n" : `the agent ended with code ${code}; its log is in ${context.data}/logs\n`,
  );
  return code === 0 ? 0 : 1;
}

function facts({ data }: Context, mesh: RunningMesh) {
  return {
    server: mesh.server,
    metrics: `http://${mesh.server}/metrics`,
    data,
    agentPid: mesh.host.agent.pid,
    socket: mesh.host.socket,
    readyMs: Math.round(mesh.readyMs),
    services: mesh.services.map(({ name, address, pid }) => ({ name, address, pid })),
  };
}

function welcome({ data, cwd }: Context, mesh: RunningMesh, nodes: readonly string[]): string {
  const place = data.startsWith(`${cwd}/`) ? `.${data.slice(cwd.length)}` : data;
  const other = mesh.server === "127.0.0.1:4747" ? "" : ` --server ${mesh.server}`;
  return `driftmesh is ready after ${(mesh.readyMs / 1000).toFixed(1)} s

  API      ${mesh.server}   gRPC, gRPC-Web and Connect on this one port
  Metrics  http://${mesh.server}/metrics
  Data     ${place}   kept between runs; logs are in ${place}/logs
  Nodes    ${nodes.join(", ")}
  Access   open on this machine only

Try next, in another terminal:
  ./driftmesh register my.onnx${other}
  ./driftmesh status
  grpcurl -plaintext ${mesh.server} list
The whole story, in five minutes and on a data folder of its own: ./driftmesh demo
Stop with Ctrl-C or ./driftmesh stop.
`;
}

/** One line on stderr that is written over; nothing where stderr is no terminal. */
function progressLine({ terminal }: Context): { say: (text: string) => void; end: () => void } {
  if (!process.stderr.isTTY) return { say: () => undefined, end: () => undefined };
  return { say: (text) => terminal.talk(`\r\u001b[K${text}`), end: () => terminal.talk("\r\u001b[K") };
}
