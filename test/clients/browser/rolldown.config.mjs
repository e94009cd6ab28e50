// One script for a page. Stubs come from PROTO_GEN, libraries that package.json does not name from the repository's node_modules.
// oxlint-disable-next-line import/no-default-export -- the form that rolldown reads
export default {
  input: "client.mjs",
  platform: "browser",
  resolve: { alias: { "#proto": process.env.PROTO_GEN } },
  output: { file: "bundle.js", format: "iife" },
};
