// Version negotiation: the newest common version and the common capabilities, or an error that names both ranges.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { answerHello, helloFrom, type Abilities } from "./negotiate.ts";

function abilities(minVersion: number, maxVersion: number, ...capabilities: string[]): Abilities {
  return { minVersion, maxVersion, capabilities };
}

test("both ends settle on the newest version and the capabilities that both have", () => {
  const hello = helloFrom("a", abilities(1, 4, "zstd", "connections"));
  assert.deepEqual(answerHello(hello, "b", abilities(2, 3, "delta", "zstd")), {
    kind: "hello-ack",
    version: 3,
    capabilities: ["zstd"],
    program: "b",
  });
});

test("ends without a common version get version-unsupported, which names both ranges", () => {
  for (const [source, destination] of [
    [abilities(1, 2), abilities(3, 5)],
    [abilities(3, 5), abilities(1, 2)],
  ] as const) {
    assert.throws(
      () => answerHello(helloFrom("a", source), "b", destination),
      (error) => {
        assert.ok(error instanceof OperationError);
        assert.equal(error.code, "version-unsupported");
        assert.deepEqual(error.facts, {
          sourceMinVersion: source.minVersion,
          sourceMaxVersion: source.maxVersion,
          destinationMinVersion: destination.minVersion,
          destinationMaxVersion: destination.maxVersion,
        });
        return true;
      },
    );
  }
});
