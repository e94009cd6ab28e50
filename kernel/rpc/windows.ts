// Flow-control windows of every HTTP/2 connection: a 256 KiB tensor must not wait for a window update.

export const STREAM_WINDOW_BYTES = 4 << 20;
export const SESSION_WINDOW_BYTES = 32 << 20;
