import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["**/*.test.ts"],
    exclude: [
      "**/node_modules/**",
      "**/.driftmesh/**",
      "**/*.integration.test.ts",
      "**/*.slow.test.ts",
      "test/{e2e,clients}/**",
    ],
    pool: "forks",
    testTimeout: 30_000,
  },
});
