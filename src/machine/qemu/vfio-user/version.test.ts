// VERSION: what is agreed, and what is refused with which words.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex } from "./served.fixture.ts";
import { negotiate, type Negotiation } from "./version.ts";

function proposal(json: string | undefined, major = 0, minor = 0): Uint8Array {
  const text = json === undefined ? "" : `${json}\0`;
  return Uint8Array.of(major & 0xff, major >>> 8, minor & 0xff, minor >>> 8, ...new TextEncoder().encode(text));
}

function agreed(negotiation: Negotiation): Extract<Negotiation, { kind: "agreed" }> {
  assert.ok(negotiation.kind === "agreed", JSON.stringify(negotiation));
  return negotiation;
}

const jsonOf = (reply: Uint8Array): string => new TextDecoder().decode(reply.subarray(4));

test("QEMU 11.1's own proposal is agreed to", () => {
  const json =
    '{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, ' +
    '"migration": {"pgsize": 4096, "max_bitmap_size": 16777216}, "write_multiple": true}}';
  const { client, reply } = agreed(negotiate(proposal(json)));
  assert.deepEqual(client, { minor: 0, dataBytesMax: 1_048_576, descriptorsMax: 16 });
  assert.deepEqual(reply.subarray(0, 4), fromHex("0000 0000"));
  assert.equal(
    jsonOf(reply),
    '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"max_dma_maps":65535,"pgsizes":4096,' +
      '"write_multiple":true}}\0',
  );
});

test("a client that names nothing gets the specification's defaults, and is told nothing", () => {
  const { client, reply } = agreed(negotiate(proposal(undefined, 0, 1)));
  assert.deepEqual(client, { minor: 1, dataBytesMax: 1_048_576, descriptorsMax: 1 });
  assert.equal(jsonOf(reply), '{"capabilities":{}}\0');
});

test("the minor version agreed on is the lower of the two", () => {
  for (const [theirs, both] of [
    [0, 0],
    [2, 2],
    [9, 2],
  ] as const) {
    const { client, reply } = agreed(negotiate(proposal("{}", 0, theirs)));
    assert.equal(client.minor, both);
    assert.equal(reply[2], both);
  }
});

test("writes are only bundled if the client can bundle them", () => {
  const { reply } = agreed(negotiate(proposal('{"capabilities":{"write_multiple":false}}')));
  assert.equal(jsonOf(reply), '{"capabilities":{"write_multiple":false}}\0');
});

test("a proposal that makes no sense is refused with a sentence about it", () => {
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [Uint8Array.of(0, 0, 0), /too short/],
    [proposal("{}", 1), /version 1/],
    [Uint8Array.of(0, 0, 0, 0, 0x7b, 0x7d), /zero byte/],
    [proposal("{"), /JSON/],
    [proposal("3"), /wrong/],
    [proposal('{"capabilities":{"max_msg_fds":-1}}'), /capabilities\.max_msg_fds/],
    [proposal('{"capabilities":{"max_data_xfer_size":1.5}}'), /max_data_xfer_size/],
    [proposal('{"capabilities":{"pgsizes":65536}}'), /4096/],
    [proposal(`"${"x".repeat(5000)}"`), /5007 bytes/],
    [Uint8Array.of(0, 0, 0, 0, 0xff, 0), /JSON/],
  ];
  for (const [payload, words] of cases) {
    const negotiation = negotiate(payload);
    assert.ok(negotiation.kind === "refused");
    assert.match(negotiation.problem, words);
  }
});

test("page sizes beyond what a number holds exactly still have their 4 KiB bit", () => {
  assert.equal(negotiate(proposal('{"capabilities":{"pgsizes":18446744073709547520}}')).kind, "agreed");
});

test("no bytes make the negotiation throw", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.json().map((json) => proposal(json)),
  );
  fc.assert(
    fc.property(bytes, (payload) => void negotiate(payload)),
    { seed: 3, numRuns: 500 },
  );
});
