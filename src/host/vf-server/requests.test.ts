import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import { downtimeParts } from "../../migration/events.ts";
import { fixtureEvents } from "../report-fixtures.ts";
import { readAnswer, type Answer } from "./answers.ts";
import { readRequest, type MoveRequest, type Request } from "./requests.ts";

const isRefusal = (error: unknown): boolean =>
  error instanceof OperationError && error.code === "control-request-invalid" && error.message.endsWith(".");

const path = fc.string({ maxLength: 30 }).map((name) => `/${name}`);
const tls = fc.record({ ca: path, certificate: path, key: path });
const address = fc.record({ host: fc.string({ minLength: 1, maxLength: 60 }), port: fc.nat(65_535) });
const common = { qmp: path, device: fc.string({ minLength: 1, maxLength: 20 }), tls };
const optional = { requiredKeys: ["qmp"], noNullPrototype: true } as const;
const move = fc.record(
  {
    ...common,
    to: address,
    strategy: fc.string({ maxLength: 64 }),
    downtimeLimitMs: fc.integer({ min: 1, max: 60_000 }),
    bandwidthBytesPerSecond: fc.double({ min: 1, max: 1e12, noNaN: true }),
    roundsMax: fc.integer({ min: 1, max: 1000 }),
    ifNotConverging: fc.constantFrom("switch-over" as const, "give-up" as const),
  },
  {
    requiredKeys: ["qmp", "to", "strategy", "downtimeLimitMs", "roundsMax", "ifNotConverging"],
    noNullPrototype: true,
  },
) as fc.Arbitrary<MoveRequest>;
const expected = fc.record({ ...common, at: address }, { ...optional, requiredKeys: ["qmp", "at"] });
const anyRequest = fc.oneof(
  fc.record({ move }),
  fc.record({ expect: expected }),
  fc.constantFrom({ takeBack: {} }, { status: {} }, { cancel: {} }),
) as fc.Arbitrary<Request>;

test("every request that can be meant is read as it was written", () => {
  fc.assert(
    fc.property(anyRequest, (request) => {
      assert.deepEqual(readRequest(JSON.parse(JSON.stringify(request))), JSON.parse(JSON.stringify(request)));
    }),
  );
});

test("whatever else JSON can say is refused with a sentence, and never anything else thrown", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.throws(() => readRequest(value), isRefusal);
    }),
  );
});

test("a request with one field more, less or of another kind is refused", () => {
  fc.assert(
    fc.property(move, fc.nat(), fc.jsonValue(), (good, which, value) => {
      const fields = Object.keys(good) as (keyof MoveRequest)[];
      const field = fields[which % fields.length] ?? "qmp";
      assert.throws(() => readRequest({ move: { ...good, unheardOf: value } }), isRefusal);
      assert.throws(() => readRequest({ move: good, status: {} }), isRefusal);
      if (!["device", "tls", "bandwidthBytesPerSecond"].includes(field)) {
        assert.throws(() => readRequest({ move: { ...good, [field]: undefined } }), isRefusal);
      }
      assert.throws(() => readRequest({ move: { ...good, [field]: [value] } }), isRefusal);
    }),
  );
});

test("paths that are not from the root, ports and numbers out of range are refused by name", () => {
  const good: MoveRequest = {
    qmp: "/q",
    to: { host: "h", port: 1 },
    strategy: "rings-first",
    downtimeLimitMs: 100,
    roundsMax: 20,
    ifNotConverging: "give-up",
  };
  for (const [wrong, where] of [
    [{ qmp: "q" }, "move.qmp"],
    [{ qmp: `/${"q".repeat(5000)}` }, "move.qmp"],
    [{ to: { host: "h", port: 65_536 } }, "move.to.port"],
    [{ to: { host: "", port: 1 } }, "move.to.host"],
    [{ downtimeLimitMs: 0 }, "move.downtimeLimitMs"],
    [{ roundsMax: 1.5 }, "move.roundsMax"],
    [{ tls: { ca: "/a", certificate: "/b" } }, "move.tls"],
  ] as const) {
    assert.throws(
      () => readRequest({ move: { ...good, ...wrong } }),
      (error) => isRefusal(error) && (error as Error).message.includes(where),
      where,
    );
  }
});

test("every answer comes through JSON as it was, with a time that nobody can tell as infinity", () => {
  const failure = { code: "c", message: "m", advice: "a", facts: { one: 1, two: "2", three: true } };
  const events = [...fixtureEvents()].map((event) =>
    Object.fromEntries(Object.entries(event).filter(([name]) => name !== "side")),
  );
  const answers: Answer[] = [
    { kind: "hello", program: "underway", protocol: 1 },
    { kind: "stage", text: "…" },
    { kind: "listening", host: "::1", port: 4711 },
    { kind: "refused", failure },
    { kind: "ended", end: { kind: "resumed", failure } },
    { kind: "ended", end: { kind: "arrived" } },
    ...events.map((event) => ({ kind: "migration", event }) as unknown as Answer),
  ];
  for (const answer of answers) assert.deepEqual(readAnswer(JSON.parse(JSON.stringify(answer))), answer);
  assert.ok(events.length > downtimeParts.length, "the fixtures have events of many kinds");
  const summary = { round: 1, pages: 1, zeroPages: 0, bytes: 1, durationMs: 1, dirtyAfter: 0, bytesPerSecond: 1 };
  const round = {
    kind: "migration",
    event: { atMs: 1, kind: "round", summary: { ...summary, expectedDowntimeMs: Infinity } },
  };
  assert.deepEqual(readAnswer(JSON.parse(JSON.stringify(round))), round);
});

test("nothing that a server does not say is taken for an answer, and nothing is thrown", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.equal(readAnswer(value), undefined);
      assert.equal(readAnswer({ kind: "migration", event: value }), undefined);
      assert.equal(readAnswer({ kind: "ended", end: value }), undefined);
    }),
  );
});
