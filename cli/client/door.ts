// What commands may use of the client side.
export { allPages } from "./pages.ts";
export { uploadParts } from "./upload.ts";
export { awaitReady, awaitReleased, awaitRun } from "./await.ts";
export { wordOf } from "./words.ts";
