// Calls between threads: answered in order, with what they throw, and with the news of a death.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MessageChannel, Worker } from "node:worker_threads";
import { OperationError } from "../../base/errors.ts";
import type { CalculatorMethods } from "./thread-call.fixture.ts";
import { ThreadCaller, threadWords } from "./thread-call.ts";

function calculator(): ThreadCaller<CalculatorMethods> {
  const words = threadWords();
  const { port1, port2 } = new MessageChannel();
  const workerData = { words, port: port2 };
  new Worker(new URL("./thread-call.fixture.ts", import.meta.url), { workerData, transferList: [port2] }).unref();
  return new ThreadCaller({ words, port: port1 });
}

test("a call waits for its answer, and the next one gets its own", () => {
  const thread = calculator();
  for (let a = 0; a < 500; a++) assert.equal(thread.call("add", { a, b: 1 }), a + 1);
});

test("what a method refuses the caller hears with code and facts, and the thread goes on", () => {
  const thread = calculator();
  assert.throws(
    () => thread.call("refuse", "no"),
    (thrown) => thrown instanceof OperationError && thrown.code === "refused" && thrown.facts["why"] === "no",
  );
  assert.equal(thread.call("add", { a: 1, b: 2 }), 3);
});

test("a thread that dies of a mistake keeps nobody waiting, neither who asked nor who asks later", () => {
  const thread = calculator();
  assert.throws(() => thread.call("die", null), /has ended: TypeError: a mistake/);
  assert.throws(() => thread.call("add", { a: 1, b: 2 }), /has ended/);
});
