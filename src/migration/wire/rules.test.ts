// The rules between messages: each broken one is named, and a whole good stream breaks none.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MigrationId } from "./protocol.ts";
import { StreamRules, type RuledMessage } from "./rules.ts";

const migrationId = "00112233445566778899aabbccddeeff" as MigrationId;
const otherId = "ffeeddccbbaa99887766554433221100" as MigrationId;

const offer: RuledMessage = {
  kind: "offer",
  migrationId,
  machine: "model",
  memoryBytes: 64 * 100,
  pageBytes: 64,
  strategy: "rings-first",
  vfModel: "intel-82599-vf",
  vfStateVersion: 1,
  machineStateVersion: 1,
  queuePairs: 1,
  mac: "02:00:00:00:00:01",
};

function pages(round: number, ...numbers: number[]): RuledMessage {
  return { kind: "pages", round, pageBytes: 64, pages: Uint32Array.from(numbers) };
}

function zeroPages(round: number, ...ranges: number[]): RuledMessage {
  return { kind: "zero-pages", round, ranges: Uint32Array.from(ranges) };
}

function roundEnd(round: number, pageCount: number, zeroCount: number, dirtyAfter = 0): RuledMessage {
  return { kind: "round-end", round, pages: pageCount, zeroPages: zeroCount, dirtyAfter };
}

function part(kind: "machine-state" | "vf-state", totalBytes: number, offset: number, length: number): RuledMessage {
  return { kind, totalBytes, offset, bytes: new Uint8Array(length) };
}

function endOfState(machineStateBytes: number, vfStateBytes: number): RuledMessage {
  return { kind: "end-of-state", machineStateBytes, vfStateBytes };
}

/** What the last message breaks; none of those before may break anything. */
function violationOfLast(...messages: RuledMessage[]): string | undefined {
  const rules = new StreamRules();
  const violations = messages.map((message) => rules.violation(message));
  assert.deepEqual(
    violations.slice(0, -1).filter((violation) => violation !== undefined),
    [],
  );
  return violations.at(-1);
}

test("a good stream breaks no rule, with a page sent twice in a round and states in parts", () => {
  const stream = [
    offer,
    zeroPages(1, 0, 50),
    pages(1, 50, 99),
    roundEnd(1, 2, 50, 7),
    pages(2, 3),
    pages(2, 3, 4),
    part("vf-state", 5, 0, 2),
    part("vf-state", 5, 2, 3),
    part("machine-state", 1, 0, 1),
    roundEnd(2, 3, 0),
    endOfState(1, 5),
  ];
  for (let length = 1; length <= stream.length; length++) {
    assert.equal(violationOfLast(...stream.slice(0, length)), undefined);
  }
});

test("a strategy may carry no VF state, but there is no migration without the machine's", () => {
  assert.equal(violationOfLast(offer, part("machine-state", 1, 0, 1), endOfState(1, 0)), undefined);
  assert.match(violationOfLast(offer, part("vf-state", 1, 0, 1), endOfState(0, 1)) ?? "", /state is missing/);
});

test("pages outside the offered memory, and of another size, are found", () => {
  assert.match(violationOfLast(offer, pages(1, 5, 100)) ?? "", /outside the memory/);
  assert.match(violationOfLast(offer, zeroPages(1, 99, 2)) ?? "", /outside the memory/);
  assert.match(violationOfLast(offer, zeroPages(1, 0xffff_ffff, 0xffff_ffff)) ?? "", /outside the memory/);
  assert.match(violationOfLast(offer, { ...pages(1, 5), pageBytes: 128 } as RuledMessage) ?? "", /not offered/);
  assert.match(violationOfLast(pages(1, 0)) ?? "", /not offered/);
});

test("rounds that are skipped, repeated or miscounted are found", () => {
  assert.match(violationOfLast(offer, pages(2, 5)) ?? "", /round 2 while round 1/);
  assert.match(violationOfLast(offer, roundEnd(1, 0, 0), pages(1, 5)) ?? "", /round 1 while round 2/);
  assert.match(violationOfLast(offer, pages(1, 5), roundEnd(1, 2, 0)) ?? "", /counts 2 pages/);
  assert.match(violationOfLast(offer, zeroPages(1, 5, 3), roundEnd(1, 0, 2)) ?? "", /2 zero pages/);
  assert.match(violationOfLast(offer, roundEnd(1, 0, 0, 101)) ?? "", /101 dirty pages/);
  assert.match(
    violationOfLast(offer, part("machine-state", 1, 0, 1), pages(1, 5), endOfState(1, 0)) ?? "",
    /not ended/,
  );
});

test("memory that is sent over and over in one round is found", () => {
  const again = Array.from({ length: 5 }, () => zeroPages(1, 0, 100));
  assert.match(violationOfLast(offer, ...again) ?? "", /over and over/);
  assert.equal(violationOfLast(offer, ...again.slice(1)), undefined);
});

test("states with gaps, of changing size or not whole are found", () => {
  assert.match(violationOfLast(offer, part("vf-state", 9, 1, 1)) ?? "", /goes on at byte 1 after 0/);
  assert.match(violationOfLast(offer, part("vf-state", 9, 0, 4), part("vf-state", 9, 5, 4)) ?? "", /at byte 5 after 4/);
  assert.match(violationOfLast(offer, part("vf-state", 9, 0, 4), part("vf-state", 8, 4, 4)) ?? "", /became one of 8/);
  assert.match(violationOfLast(offer, part("machine-state", 9, 0, 4), endOfState(9, 0)) ?? "", /not complete/);
  const machine = part("machine-state", 1, 0, 1);
  assert.match(violationOfLast(offer, machine, part("vf-state", 9, 0, 4), endOfState(1, 9)) ?? "", /VF's state is not/);
  assert.match(violationOfLast(offer, machine, endOfState(1, 4)) ?? "", /not those that went over/);
});

test("an answer that was not asked for, and a question too many, are found", () => {
  const query: RuledMessage = { kind: "query-outcome", migrationId };
  assert.equal(violationOfLast(query, { kind: "outcome", migrationId, outcome: "running" }), undefined);
  assert.match(violationOfLast(query, { kind: "outcome", migrationId: otherId, outcome: "running" }) ?? "", /another/);
  const queries = Array.from({ length: 17 }, () => query);
  assert.match(violationOfLast(...queries) ?? "", /more than 16/);
  const hello: RuledMessage = { kind: "hello", minVersion: 1, maxVersion: 2, capabilities: ["zstd"], program: "p" };
  const ack = { kind: "hello-ack", version: 2, capabilities: [], program: "p" } as const;
  assert.equal(violationOfLast(hello, ack), undefined);
  assert.match(violationOfLast(hello, { ...ack, version: 3 }) ?? "", /version 3 was chosen/);
  assert.match(violationOfLast(hello, { ...ack, capabilities: ["tls"] }) ?? "", /capability/);
});
