// Whatever a client sends: no exception, no descriptor lost, nothing mapped that it did not map, an answer to everything.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaAccess } from "../../../iommu/fault-log.ts";
import { Command, FLAG_NO_REPLY } from "./protocol.ts";
import { MEMORY_BYTES, pack, PAGE, ServedGuest, u32, type DescriptorKind } from "./served.fixture.ts";

const SEED = 20;

/** Numbers at which things break. */
const number = fc.oneof(
  { weight: 5, arbitrary: fc.nat(20) },
  { weight: 3, arbitrary: fc.constantFrom(0x24, 0x21, 0x29, 0x4000, 0x1000, 4096, 8192, 0x1_0002, 0x2_0002, 0x2_0006) },
  { weight: 2, arbitrary: fc.constantFrom(0x1_0008, 0x2_0007, 0x8000_0000, 0xffff_ffff, 0xffff_f000) },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
);
const page = fc.nat(MEMORY_BYTES / PAGE + 4).map((index) => index * PAGE);
const pages = fc.integer({ min: 1, max: 64 }).map((count) => count * PAGE);
const kinds = fc.array(fc.constantFrom<DescriptorKind>("memory", "eventfd", "other"), { maxLength: 4 });

const wellFormed = fc.oneof(
  fc
    .tuple(fc.constant(Command.dmaMap), fc.tuple(fc.integer({ min: 1, max: 3 }), page, page, pages))
    .map(
      ([command, [flags, offset, iova, length]]) =>
        [command, pack([4, 32], [4, flags], [8, offset], [8, iova], [8, length])] as const,
    ),
  fc
    .tuple(fc.constant(Command.dmaUnmap), fc.nat(2), page, pages)
    .map(
      ([command, flags, iova, length]) =>
        [
          command,
          pack([4, 64], [4, flags], [8, flags === 2 ? 0 : iova], [8, flags === 2 ? 0 : length], [8, PAGE], [8, 8]),
        ] as const,
    ),
  fc
    .tuple(fc.constantFrom(Command.regionRead, Command.regionWrite), number, fc.nat(9), fc.nat(64))
    .map(
      ([command, offset, region, count]) =>
        [
          command,
          new Uint8Array([
            ...pack([8, offset], [4, region], [4, count]),
            ...new Uint8Array(command === Command.regionWrite ? count : 0).fill(7),
          ]),
        ] as const,
    ),
  fc
    .tuple(
      fc.constant(Command.deviceSetIrqs),
      fc.constantFrom(0x21, 0x24, 0x0a, 0x12, 0x09),
      fc.nat(4),
      fc.nat(3),
      fc.nat(4),
    )
    .map(
      ([command, flags, index, start, count]) =>
        [
          command,
          new Uint8Array([
            ...u32(24, flags, index, start, count),
            ...new Uint8Array((flags & 2) === 0 ? 0 : count).fill(1),
          ]),
        ] as const,
    ),
  fc
    .tuple(fc.constant(Command.deviceFeature), fc.constantFrom(1, 2, 6, 7, 8), fc.constantFrom(1, 2), fc.nat(8))
    .map(
      ([command, feature, operation, value]) =>
        [
          command,
          pack(
            [4, 4096],
            [4, (operation << 16) | feature],
            [8, feature > 5 ? PAGE : value],
            [8, feature === 6 ? 0 : 16 * PAGE],
            [8, PAGE],
          ),
        ] as const,
    ),
  fc
    .tuple(fc.constantFrom(Command.migrationDataRead, Command.migrationDataWrite), fc.nat(5000))
    .map(
      ([command, size]) =>
        [command, new Uint8Array([...u32(8 + size, size), ...new Uint8Array(command === 18 ? size : 0)])] as const,
    ),
  fc.constant([Command.deviceReset, new Uint8Array(0)] as const),
);

const anything = fc.tuple(
  fc.nat(20),
  fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.array(number, { maxLength: 20 }).map((numbers) => u32(...numbers)),
  ),
);

const message = fc.record({
  content: fc.oneof({ weight: 3, arbitrary: wellFormed }, { weight: 2, arbitrary: anything }),
  flags: fc.constantFrom(0, 0, 0, FLAG_NO_REPLY),
  kinds,
});

/** Every page that the domain has is one that DMA_MAP could give: inside of the memory. */
function checkDomain(guest: ServedGuest): void {
  let found = 0;
  for (let iova = 0; iova < MEMORY_BYTES + 128 * PAGE; iova += PAGE) {
    const address = guest.domain.translate(iova, DmaAccess.read);
    const writable = guest.domain.translate(iova, DmaAccess.write);
    if (address < 0 && writable < 0) continue;
    found++;
    assert.ok(Math.max(address, writable) + PAGE <= MEMORY_BYTES);
  }
  assert.equal(found, guest.domain.mappedPages);
}

test("any messages in any order: each is answered once, none throws, and no descriptor or mapping outlives the client", () => {
  const property = fc.property(fc.array(message, { minLength: 1, maxLength: 60 }), (messages) => {
    const guest = new ServedGuest().negotiate().enable();
    for (const { content, flags, kinds: wanted } of messages) {
      const [command, payload] = content;
      const descriptors = wanted.map((kind) => guest.descriptors.make(kind));
      const reply = guest.send(command, payload, { descriptors, flags });
      assert.equal(reply !== undefined, (flags & FLAG_NO_REPLY) === 0);
      // Three vectors, an error and a request can hold one each.
      assert.ok(guest.descriptors.openCount <= 5);
      guest.vf.run();
      guest.channel.sent.length = 0;
    }
    checkDomain(guest);
    guest.hangUp();
    assert.equal(guest.descriptors.openCount, 0);
    assert.equal(guest.domain.mappedPages + guest.unshared.mappedPages, 0);
    assert.equal(guest.vf.isStopped, false);
  });
  fc.assert(property, { seed: SEED, numRuns: 300 });
});

test("any header before VERSION ends the connection or names a version, and never throws", () => {
  const header = fc.record({
    id: fc.nat(0xffff),
    command: fc.nat(20),
    flags: fc.nat(0x3f),
    error: fc.nat(200),
    payload: fc.uint8Array({ maxLength: 40 }),
  });
  const property = fc.property(fc.array(header, { maxLength: 10 }), kinds, (headers, wanted) => {
    const guest = new ServedGuest();
    for (const fields of headers) {
      if (guest.channel.isClosed) break;
      const descriptors = wanted.map((kind) => guest.descriptors.make(kind));
      guest.channel.onMessage({ ...fields, descriptors });
    }
    guest.hangUp();
    assert.equal(guest.descriptors.openCount, 0);
  });
  fc.assert(property, { seed: SEED + 1, numRuns: 300 });
});
