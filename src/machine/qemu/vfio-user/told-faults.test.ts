// Faults told to the client: what is sent, how often, and that the device sees the fault all the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Domain } from "../../../iommu/domain.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { BufferMemory } from "../../../memory/guest-memory.ts";
import { Command, FLAG_ERROR } from "./protocol.ts";
import type { ReplyListener } from "./requests.ts";
import { pack, PAGE } from "./served.fixture.ts";
import { ToldFaults } from "./told-faults.ts";

interface Asked {
  readonly command: number;
  readonly payload: Uint8Array;
  readonly onReply: ReplyListener;
}

function make(isListening = true): { port: ToldFaults; asked: Asked[]; domain: Domain } {
  const asked: Asked[] = [];
  const domain = new Domain();
  const guestDma = new GuestDma({ memory: new BufferMemory(16 * PAGE), domain });
  const port = new ToldFaults(guestDma, (command, payload, onReply) => {
    if (isListening) asked.push({ command, payload, onReply });
    return isListening;
  });
  return { port, asked, domain };
}

test("an access that is mapped is nobody else's business", () => {
  const { port, asked, domain } = make();
  domain.map({ iova: 0, address: 0, lengthBytes: PAGE, access: 3 });
  assert.equal(port.writeBytes(8, Uint8Array.of(1, 2, 3, 4), 1, 2, 0), 0);
  assert.equal(port.writeWords(12, Uint32Array.of(7), 1, 0), 0);
  const bytes = new Uint8Array(8);
  assert.equal(port.readBytes(8, bytes, 0, 8), 0);
  assert.equal(port.readWords(8, new Uint32Array(1), 1), 0);
  assert.deepEqual(bytes, Uint8Array.of(2, 3, 0, 0, 7, 0, 0, 0));
  assert.deepEqual(asked, []);
});

test("each kind of access that faults is told with its address, length and data", () => {
  const accesses: readonly (readonly [(port: ToldFaults) => number, number, Uint8Array])[] = [
    [(port) => port.readWords(PAGE, new Uint32Array(4), 4), Command.dmaRead, pack([8, PAGE], [8, 16])],
    [(port) => port.readBytes(7, new Uint8Array(9), 0, 9), Command.dmaRead, pack([8, 7], [8, 9])],
    [
      (port) => port.writeWords(PAGE, Uint32Array.of(1, 0x8000_0000, 3), 2, 0),
      Command.dmaWrite,
      pack([8, PAGE], [8, 8], [4, 1], [4, 0x8000_0000]),
    ],
    [
      (port) => port.writeBytes(3, Uint8Array.of(9, 8, 7, 6), 1, 2, 0),
      Command.dmaWrite,
      pack([8, 3], [8, 2], [1, 8], [1, 7]),
    ],
  ];
  for (const [act, command, payload] of accesses) {
    const { port, asked } = make();
    assert.equal(act(port), 1);
    assert.deepEqual([asked[0]?.command, asked[0]?.payload], [command, payload]);
  }
});

test("one fault is told at a time, until the client has answered or gone", () => {
  const { port, asked } = make();
  const fault = (): void => void port.readBytes(0, new Uint8Array(1), 0, 1);
  fault();
  fault();
  assert.deepEqual([asked.length, port.told, port.untold], [1, 1, 1]);
  asked[0]?.onReply({ flags: 1 | FLAG_ERROR, payload: new Uint8Array(0) });
  fault();
  fault();
  assert.equal(asked.length, 2);
  port.reset();
  fault();
  assert.equal(asked.length, 3);
});

test("a fault is counted when there is nobody to tell", () => {
  const { port, asked } = make(false);
  assert.equal(port.readBytes(0, new Uint8Array(1), 0, 1), 1);
  assert.deepEqual([asked.length, port.told, port.untold], [0, 0, 1]);
});
