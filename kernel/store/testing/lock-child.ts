// Holds the lock of the folder in its argument until it is killed, for the test of a second launcher. Says "locked" or why not.
import { messageOf } from "../../fault/error.ts";
import { lockDataFolder } from "../lock.ts";

try {
  await using _lock = await lockDataFolder(process.argv[2] ?? "");
  process.stdout.write("locked\n");
  process.stdin.resume();
  await new Promise((resolve) => process.stdin.once("end", resolve));
} catch (thrown) {
  process.stdout.write(`${messageOf(thrown)}\n`);
}
