// Each access goes by the way its memory can be reached, whole or not at all.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaStatus } from "../../../iommu/dma-port.ts";
import { Domain } from "../../../iommu/domain.ts";
import { DmaAccess, FaultLog } from "../../../iommu/fault-log.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { BufferMemory } from "../../../memory/guest-memory.ts";
import { MessageClient } from "./message-client.fixture.ts";
import { MessageDma } from "./message-dma.ts";
import { RoutedDma } from "./routed-dma.ts";

const PAGE = 4096;
const PAGES = 8;
const access = DmaAccess.read | DmaAccess.write;

test("an access goes to shared memory, by messages, or nowhere, by the pages it lies in", () => {
  const kinds = fc.array(fc.constantFrom("shared", "unshared", "none"), { minLength: PAGES, maxLength: PAGES });
  fc.assert(
    fc.property(kinds, fc.nat(PAGES * PAGE - 1), fc.integer({ min: 1, max: 3 * PAGE }), (pages, iova, length) => {
      const memory = new BufferMemory((PAGES + 4) * PAGE);
      const elsewhere = new BufferMemory((PAGES + 4) * PAGE);
      const domain = new Domain();
      const unshared = new Domain();
      const theirs = new Domain();
      pages.forEach((kind, page) => {
        const mapping = { iova: page * PAGE, address: page * PAGE, lengthBytes: PAGE, access };
        if (kind === "shared") domain.map(mapping);
        if (kind !== "unshared") return;
        unshared.map(mapping);
        theirs.map(mapping);
      });
      const client = new MessageClient(new GuestDma({ memory: elsewhere, domain: theirs }));
      const messages = new MessageDma({ requester: client, faults: new FaultLog(), transferBytesMax: () => PAGE });
      const dma = new RoutedDma({ shared: new GuestDma({ memory, domain }), messages, unshared });
      const touched = new Set(pages.slice(Math.floor(iova / PAGE), Math.ceil((iova + length) / PAGE)));
      if (iova + length > PAGES * PAGE) touched.add("none");
      const way = touched.size === 1 ? [...touched][0] : "none";

      const bytes = new Uint8Array(length).fill(7);
      const target = new Uint8Array(length);
      const { ok, later, unmapped } = DmaStatus;
      assert.equal(dma.writeBytes(iova, bytes, 0, length, 0), way === "none" ? unmapped : ok);
      const status = dma.readBytes(iova, target, 0, length);
      assert.equal(status, way === "none" ? unmapped : way === "unshared" ? later : ok);
      while (client.work() || client.arrive());
      if (status === later) assert.equal(dma.readBytes(iova, target, 0, length), ok);
      assert.equal(
        target.every((byte) => byte === 7),
        way !== "none",
      );
      assert.equal(memory.bytes().includes(7), way === "shared");
      assert.equal(elsewhere.bytes().includes(7), way === "unshared");
      assert.equal(domain.faults.total, way === "none" ? 2 : 0);
    }),
    { seed: 20_151_029, numRuns: 300 },
  );
});

test("words go the same ways, and forgetting reaches the messages", () => {
  const memory = new BufferMemory(4 * PAGE);
  const domain = new Domain();
  const unshared = new Domain();
  domain.map({ iova: 0, address: 0, lengthBytes: PAGE, access });
  unshared.map({ iova: PAGE, address: 0, lengthBytes: PAGE, access });
  const client = new MessageClient(new GuestDma({ memory, domain }));
  const messages = new MessageDma({ requester: client, faults: new FaultLog(), transferBytesMax: () => PAGE });
  const dma = new RoutedDma({ shared: new GuestDma({ memory, domain }), messages, unshared });
  const words = Uint32Array.of(3, 4);
  assert.equal(dma.writeWords(8, words, 2, 0), DmaStatus.ok);
  assert.equal(dma.readWords(8, words, 2), DmaStatus.ok);
  assert.equal(dma.writeWords(PAGE, words, 2, 0), DmaStatus.ok);
  assert.equal(dma.readWords(PAGE, words, 2), DmaStatus.later);
  assert.deepEqual([client.sent.write, client.sent.read, messages.heldReads], [1, 1, 1]);
  while (client.work() || client.arrive());
  dma.forgetReads();
  assert.equal(messages.heldReads, 0);
});
