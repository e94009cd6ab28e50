import { expect, test } from "vitest";
import { dockerfileProblems } from "./dockerfile.ts";

const says = (text: string): string[] =>
  dockerfileProblems({ path: "Dockerfile", text }).map((p) => p.says.slice(0, 2));

test.each([
  ["a base without a full version", "FROM node:24\n", "K1"],
  ["root", 'FROM node:24.21.0\nENTRYPOINT ["node"]\n', "K2"],
  ["shell form", "FROM node:24.21.0\nUSER node\nENTRYPOINT node\n", "K3"],
  ["a copy of nothing", "FROM node:24.21.0\nCOPY nowhere ./\n", "K4"],
  ["npm install", "FROM node:24.21.0\nRUN npm install\n", "K5"],
  ["scripts of strangers", "FROM node:24.21.0\nRUN npm ci\n", "K5"],
])("%s is found", (_name, text, code) => {
  expect(says(text)).toEqual([code]);
});
