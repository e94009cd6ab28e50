// What commands may use of the client side.
export { allPages } from "./pages.ts";
export { uploadFile, uploadParts } from "./upload.ts";
export { awaitReady, awaitReleased, awaitRun } from "./await.ts";
export { wordOf } from "./words.ts";
