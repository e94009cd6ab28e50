import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/e2e/**/*.test.ts", "test/clients/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/.driftmesh/**", "**/.cache/**", "**/*.slow.test.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});
