// Enum values as the words people read.
import type { DescEnum } from "@bufbuild/protobuf";

/** `ready`, `binary-classification`: the value's name without its prefix; its number when it is unknown. */
export function wordOf(schema: DescEnum, value: number): string {
  const name = schema.values.find((v) => v.number === value)?.localName;
  return name === undefined ? String(value) : name.toLowerCase().replaceAll("_", "-");
}
