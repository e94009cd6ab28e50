import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["**/*.slow.test.ts"],
    exclude: ["**/node_modules/**", "**/.driftmesh/**", "**/.cache/**"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});
