// The way into the recorder for the rest of the sidecar.
export { startRecorder, type OtherScores, type RecordedCall, type Recorder } from "./recorder.ts";
