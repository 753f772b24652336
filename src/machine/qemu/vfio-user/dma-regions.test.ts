// DMA_MAP and DMA_UNMAP: what the device can reach, and nothing else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError } from "../../../base/errors.ts";
import { DmaAccess } from "../../../iommu/fault-log.ts";
import { Command, DMA_MAPS_MAX, Errno } from "./protocol.ts";
import { MEMORY_BYTES, pack, PAGE, ServedGuest } from "./served.fixture.ts";

const { read, write } = DmaAccess;
const served = (): ServedGuest => new ServedGuest().negotiate();
const ALL = 2;

test("a mapped descriptor leads from the device's address to the bytes at its offset", () => {
  const guest = served();
  assert.equal(guest.map(0x10_0000, 4 * PAGE, { offset: 2 * PAGE }), Errno.none);
  assert.equal(guest.domain.translate(0x10_0000 + 5, write), 2 * PAGE + 5);
  assert.equal(guest.domain.translate(0x10_0000 + 4 * PAGE, write), -1);
  assert.equal(guest.unshared.mappedPages, 0);
  assert.equal(guest.descriptors.openCount, 0);
});

test("a region is writable for the device only if it was mapped so", () => {
  const guest = served();
  guest.map(0, PAGE, { flags: 1 });
  assert.equal(guest.domain.translate(0, read), 0);
  assert.equal(guest.domain.translate(0, write), -2);
});

test("without a descriptor, or with one that cannot be used, a region is reached by messages only", () => {
  const guest = served();
  const payload = pack([4, 32], [4, 3], [8, 0], [8, 0], [8, PAGE]);
  guest.ask(Command.dmaMap, payload);
  assert.equal(guest.map(PAGE, PAGE, { kind: "other" }), Errno.none);
  assert.equal(guest.map(2 * PAGE, PAGE, { offset: MEMORY_BYTES }), Errno.none);
  assert.equal(guest.map(3 * PAGE, PAGE, { offset: 17 }), Errno.none);
  assert.equal(guest.map(4 * PAGE, PAGE, { flags: 3 | 8 }), Errno.none);
  assert.equal(guest.domain.mappedPages, 0);
  assert.equal(guest.unshared.mappedPages, 5);
  assert.equal(guest.descriptors.openCount, 0);
  assert.equal(guest.unmap(0, 5 * PAGE), Errno.none);
  assert.equal(guest.unshared.mappedPages, 0);
});

test("a region whose descriptor the system cannot map is reached by messages", () => {
  const guest: ServedGuest = new ServedGuest({
    files: {
      adopt(descriptor) {
        guest.descriptors.closeDescriptor(descriptor);
        throw new OperationError({ code: "system-call-failed", message: "no memory", advice: "Free some." });
      },
    },
  });
  assert.equal(guest.negotiate().map(0, PAGE), Errno.none);
  assert.deepEqual([guest.domain.mappedPages, guest.unshared.mappedPages], [0, 1]);
});

test("a map over an existing region fails with EEXIST and changes nothing, however they overlap", () => {
  const guest = served();
  guest.map(4 * PAGE, 4 * PAGE);
  const before = guest.domain.mappedPages;
  for (const [page, pages] of [
    [4, 4],
    [3, 2],
    [7, 2],
    [5, 1],
    [0, 20],
  ] as const) {
    assert.equal(guest.map(page * PAGE, pages * PAGE, { offset: 0 }), Errno.exists);
    assert.equal(guest.map(page * PAGE, pages * PAGE, { kind: "other" }), Errno.exists);
  }
  assert.equal(guest.domain.mappedPages, before);
  assert.equal(guest.unshared.mappedPages, 0);
  assert.equal(guest.descriptors.openCount, 0);
});

test("maps that are no whole pages, too far up, without access or with unknown flags are refused", () => {
  const guest = served();
  const wrong = [
    [0, PAGE + 1, 3],
    [0, 0, 3],
    [17, PAGE, 3],
    [2 ** 53, PAGE, 3],
    [2 ** 53 - PAGE, 2 * PAGE, 3],
    [2 ** 63, 2 ** 63, 3],
    [0, PAGE, 0],
    [0, PAGE, 0x13],
  ] as const;
  for (const [iova, length, flags] of wrong) {
    assert.equal(guest.map(iova, length, { flags, offset: 0 }), Errno.invalid);
  }
  assert.equal(guest.errorOf(Command.dmaMap, pack([4, 32], [4, 7], [8, 0], [8, 0], [8, PAGE])), Errno.invalid);
  assert.equal(guest.errorOf(Command.dmaMap, new Uint8Array(31)), Errno.invalid);
  assert.equal(guest.errorOf(Command.dmaMap, pack([4, 31], [4, 3], [8, 0], [8, 0], [8, PAGE])), Errno.invalid);
  assert.equal(guest.domain.mappedPages + guest.unshared.mappedPages, 0);
  assert.equal(guest.descriptors.openCount, 0);
});

test("unmapping answers with the request, and the device cannot write there any more", () => {
  const guest = served();
  guest.map(0, 4 * PAGE);
  const request = pack([4, 24], [4, 0], [8, 0], [8, 4 * PAGE]);
  assert.deepEqual(guest.ask(Command.dmaUnmap, request), request);
  assert.equal(guest.dma.writeBytes(0, new Uint8Array(4), 0, 4, 0), 1);
});

test("a range takes all regions in it, and is refused if it cuts one", () => {
  const guest = served();
  for (const page of [1, 2, 4, 9]) guest.map(page * PAGE, PAGE);
  guest.map(5 * PAGE, 2 * PAGE);
  assert.equal(guest.unmap(PAGE, 5 * PAGE), Errno.invalid);
  assert.equal(guest.unmap(6 * PAGE, PAGE), Errno.invalid);
  assert.equal(guest.unmap(6 * PAGE, 2 ** 63), Errno.invalid);
  assert.equal(guest.domain.mappedPages, 6);
  assert.equal(guest.unmap(0, 7 * PAGE), Errno.none);
  assert.equal(guest.domain.mappedPages, 1);
  assert.equal(guest.unmap(0, 7 * PAGE), Errno.none, "nothing left there is not an error");
  assert.equal(guest.unmap(0, 2 ** 63), Errno.none);
  assert.equal(guest.domain.mappedPages, 0);
});

test("the flag for all takes everything, with no address and no size", () => {
  const guest = served();
  guest.map(0, PAGE);
  guest.map(PAGE, PAGE, { kind: "other" });
  assert.equal(guest.unmap(0, PAGE, ALL), Errno.invalid);
  assert.equal(guest.unmap(0, 0, ALL), Errno.none);
  assert.equal(guest.domain.mappedPages + guest.unshared.mappedPages, 0);
  assert.equal(guest.map(0, PAGE), Errno.none);
  for (const flags of [3, 4]) assert.equal(guest.unmap(0, PAGE, flags), Errno.invalid);
  assert.equal(guest.unmap(0, 0), Errno.invalid);
});

test("unmapping can bring the bitmap of what was written, if that is logged", () => {
  const guest = served();
  guest.map(0, 70 * PAGE);
  const bitmap = pack([4, 24 + 16 + 16], [4, 1], [8, 0], [8, 70 * PAGE], [8, PAGE], [8, 16]);
  assert.equal(guest.errorOf(Command.dmaUnmap, bitmap), Errno.invalid);
  guest.log.start();
  guest.dma.writeBytes(65 * PAGE, new Uint8Array(4), 0, 4, 0);
  const small = pack([4, 24 + 16 + 8], [4, 1], [8, 0], [8, 70 * PAGE], [8, PAGE], [8, 8]);
  assert.equal(guest.errorOf(Command.dmaUnmap, small), Errno.invalid);
  const reply = guest.ask(Command.dmaUnmap, bitmap);
  assert.deepEqual(reply.slice(0, 40), bitmap);
  assert.deepEqual(reply.slice(40), pack([8, 0], [8, 2]));
  assert.equal(guest.domain.mappedPages, 0);
});

test("there are at most as many regions as were agreed on", () => {
  const guest = served();
  const payload = pack([4, 32], [4, 1], [8, 0], [8, 0], [8, PAGE]);
  const view = new DataView(payload.buffer);
  for (let i = 0; i < DMA_MAPS_MAX; i++) {
    view.setUint32(16, i * PAGE, true);
    guest.channel.sent.length = 0;
    assert.equal(guest.errorOf(Command.dmaMap, payload), Errno.none);
  }
  assert.equal(guest.map(DMA_MAPS_MAX * PAGE, PAGE), Errno.noSpace);
});
