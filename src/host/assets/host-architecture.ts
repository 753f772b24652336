// This machine's architecture by Debian's name.
import { packagesMissing } from "./packages-missing.ts";

/** `amd64` or `arm64`. Fails with OperationError `asset-missing` on any other: Debian's programs were not tried there. */
export function hostArchitecture(): string {
  const architecture = { x64: "amd64", arm64: "arm64" }[process.arch as string];
  if (architecture === undefined) throw packagesMissing(`this processor is ${process.arch}`);
  return architecture;
}
