import assert from "node:assert/strict";
import { duplexPair, type Duplex } from "node:stream";
import { test } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { QmpClient } from "../../machine/qemu/qmp.ts";
import { checkDestination, checkSource } from "./preflight.ts";

const MEMORY_BYTES = 256 << 20;

interface Told {
  readonly version: readonly [number, number];
  readonly machine: string;
  readonly memory: Record<string, number>;
  readonly status: { readonly status: string; readonly running: boolean };
  readonly migration: Record<string, unknown>;
}

const source: Told = {
  version: [10, 1],
  machine: "pc-q35-10.1-machine",
  memory: { "base-memory": MEMORY_BYTES, "plugged-memory": 0 },
  status: { status: "running", running: true },
  migration: {},
};
const destination: Told = { ...source, status: { status: "inmigrate", running: false } };

/** A QEMU that answers questions. */
async function qemu(told: Told): Promise<QmpClient> {
  const [near, far] = duplexPair();
  const [major, minor] = told.version;
  far.write(
    `${JSON.stringify({ QMP: { version: { qemu: { major, minor, micro: 0 }, package: "" }, capabilities: [] } })}\n`,
  );
  answerQuestions(far, {
    qmp_capabilities: {},
    "qom-get": told.machine,
    "query-memory-size-summary": told.memory,
    "query-status": told.status,
    "query-migrate": told.migration,
  });
  return QmpClient.over(near, "test");
}

function answerQuestions(far: Duplex, answers: Readonly<Record<string, unknown>>): void {
  far.setEncoding("utf8").on("data", (text: string) => {
    for (const line of text.split("\n").filter((each) => each !== "")) {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      assert.ok(execute in answers, `${execute} changes something, or was not thought of`);
      far.write(`${JSON.stringify({ id, return: answers[execute] })}\n`);
    }
  });
}

test("a QEMU that can be moved passes, as the source or as the destination, after any move before", async () => {
  await checkSource(await qemu(source), MEMORY_BYTES);
  for (const status of ["none", "completed", "failed", "cancelled"]) {
    await checkSource(await qemu({ ...source, migration: { status } }), MEMORY_BYTES);
  }
  await checkSource(await qemu({ ...source, version: [11, 0] }), MEMORY_BYTES);
  await checkDestination(await qemu(destination), MEMORY_BYTES);
});

const wrongSources: readonly (readonly [code: string, changes: Partial<Told>])[] = [
  ["qemu-too-old", { version: [10, 0] }],
  ["qemu-too-old", { version: [9, 2] }],
  ["qemu-machine-unsupported", { machine: "pc-i440fx-10.1-machine" }],
  ["qemu-memory-mismatch", { memory: { "base-memory": MEMORY_BYTES * 2 } }],
  ["qemu-memory-mismatch", { memory: { "base-memory": MEMORY_BYTES, "plugged-memory": 4096 } }],
  ["qemu-guest-not-running", { status: { status: "paused", running: false } }],
  ["qemu-guest-not-running", { status: { status: "postmigrate", running: false } }],
  ["qemu-migration-blocked", { migration: { "blocked-reasons": ["a device that cannot"] } }],
  ["qemu-migration-busy", { migration: { status: "active" } }],
  ["qmp-garbled", { status: { status: "running" } as unknown as Told["status"] }],
];
for (const [code, changes] of wrongSources) {
  test(`a source with ${JSON.stringify(changes)} is ${code}`, async () => {
    const checking = checkSource(await qemu({ ...source, ...changes }), MEMORY_BYTES);
    await assert.rejects(checking, (error) => error instanceof OperationError && error.code === code);
  });
}

const wrongDestinations: readonly (readonly [code: string, changes: Partial<Told>])[] = [
  ["qemu-not-expecting", { status: { status: "running", running: true } }],
  ["qemu-not-expecting", { migration: { status: "setup" } }],
  ["qemu-not-expecting", { migration: { status: "failed" } }],
  ["qemu-too-old", { version: [10, 0] }],
  ["qemu-memory-mismatch", { memory: { "base-memory": MEMORY_BYTES / 2 } }],
];
for (const [code, changes] of wrongDestinations) {
  test(`a destination with ${JSON.stringify(changes)} is ${code}`, async () => {
    const checking = checkDestination(await qemu({ ...destination, ...changes }), MEMORY_BYTES);
    await assert.rejects(checking, (error) => error instanceof OperationError && error.code === code);
  });
}
