// Operation errors on the wire: they come back with their code, and unsafe or endless text is clipped on the way out.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AssertionError } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { decodeControl, encodeControl, errorMessageOf, errorOfMessage } from "./control-payloads.ts";
import type { ErrorMessage } from "./protocol.ts";

function overTheWire(error: OperationError): OperationError {
  const message = decodeControl("error", encodeControl(errorMessageOf(error)));
  return errorOfMessage(message as ErrorMessage, "peer");
}

test("an error arrives with its code, sentences and facts, and the fact that the peer said it", () => {
  const facts = { memoryBytes: 4096, strategy: "blind", known: false };
  const arrived = overTheWire(
    new OperationError({ code: "no-room", message: "No room.", advice: "Make room.", facts }),
  );
  assert.equal(arrived.code, "no-room");
  assert.equal(arrived.message, "No room.");
  assert.equal(arrived.advice, "Make room.");
  assert.deepEqual(arrived.facts, { ...facts, toldByPeer: true });
});

test("text that is too long or unsafe is clipped, so that every error can be told", () => {
  const facts: Record<string, string | number> = {
    "not a name": 1,
    infinite: Number.POSITIVE_INFINITY,
    long: "é".repeat(900),
  };
  for (let i = 0; i < 40; i++) facts[`fact${i}`] = i;
  const error = new OperationError({
    code: "Not Kebab",
    message: `\u{1b}[2J${"😀".repeat(600)}`,
    advice: "a\nb",
    facts,
  });
  const arrived = overTheWire(error);
  assert.equal(arrived.code, "operation-failed");
  assert.ok(arrived.message.startsWith(" [2J😀") && arrived.message.endsWith("😀…"));
  assert.ok(arrived.message.length <= 512);
  assert.equal(arrived.advice, "a b");
  assert.equal(arrived.facts["infinite"], "Infinity");
  assert.equal(arrived.facts["long"], `${"é".repeat(127)}…`);
  assert.ok(!("not a name" in arrived.facts));
});

test("a control message that does not fit its schema is the programmer's error", () => {
  assert.throws(() => encodeControl({ kind: "abort", code: "Not Kebab", message: "" }), AssertionError);
});
