// The door to the environment for programs that a person starts (the command line); services are given theirs by runService.

/** Environment variables, as read at the start. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** This process's environment. Called once, by a main.ts. */
export function environment(): Environment {
  return process.env;
}
