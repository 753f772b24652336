// Version negotiation: what two ends agree on, or why they cannot.
import type { OperationError } from "../../base/errors.ts";
import { wireError } from "./errors.ts";
import { protocolVersions } from "./protocol.ts";
import type { Hello, HelloAck, VersionRange } from "./protocol.ts";

/** What one end can do. */
export interface Abilities extends VersionRange {
  readonly capabilities: readonly string[];
}

/** What this program can do: no optional feature yet. */
const ownAbilities: Abilities = { ...protocolVersions, capabilities: [] };

/** The source's first message. */
export function helloFrom(program: string, own: Abilities = ownAbilities): Hello {
  return { kind: "hello", ...own, capabilities: own.capabilities.toSorted(), program };
}

function noCommonVersion(source: VersionRange, destination: VersionRange): OperationError {
  const facts = {
    sourceMinVersion: source.minVersion,
    sourceMaxVersion: source.maxVersion,
    destinationMinVersion: destination.minVersion,
    destinationMaxVersion: destination.maxVersion,
  };
  const say = (range: VersionRange): string => `${range.minVersion} to ${range.maxVersion}`;
  const message = `The source speaks protocol versions ${say(source)}, the destination ${say(destination)}.`;
  return wireError("version-unsupported", message, facts);
}

/** The destination's answer: the newest version that both speak. Throws `version-unsupported` naming both ranges. */
export function answerHello(hello: Hello, program: string, own: Abilities = ownAbilities): HelloAck {
  const version = Math.min(hello.maxVersion, own.maxVersion);
  if (version < hello.minVersion || version < own.minVersion) throw noCommonVersion(hello, own);
  const capabilities = hello.capabilities.filter((name) => own.capabilities.includes(name));
  return { kind: "hello-ack", version, capabilities, program };
}
