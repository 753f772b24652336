import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BufferMemory, type GuestMemory } from "../memory/guest-memory.ts";
import { Domain, IdentityDomain } from "./domain.ts";
import { DmaPurpose, DmaStatus, dmaTag, type DmaObserver } from "./dma-port.ts";
import { DmaAccess } from "./fault-log.ts";
import { GuestDma } from "./guest-dma.ts";

const pageBytes = 64;
const memoryPages = 8;
const memoryBytes = pageBytes * memoryPages;
const tag = dmaTag(DmaPurpose.rxBuffer, 1, 2, true);

/** Reports that must add up: what changed, and that `before` saw the old bytes and `after` the new ones. */
class Witness implements DmaObserver {
  readonly pieces: { address: number; length: number; old: number[]; now: number[]; tag: number }[] = [];
  readonly #memory: BufferMemory;

  constructor(memory: BufferMemory) {
    this.#memory = memory;
  }

  before(address: number, length: number, observedTag: number): void {
    const old = [...this.#memory.bytes().subarray(address, address + length)];
    this.pieces.push({ address, length, old, now: [], tag: observedTag });
  }

  after(address: number, length: number): void {
    const piece = this.pieces.at(-1);
    assert.ok(piece !== undefined && piece.address === address && piece.length === length);
    piece.now.push(...this.#memory.bytes().subarray(address, address + length));
  }
}

/** A memory of patterned bytes, so that every misplaced byte shows. */
function patterned(): BufferMemory {
  const memory = new BufferMemory(memoryBytes, { pageBytes });
  memory.bytes().forEach((_, i, bytes) => (bytes[i] = (i * 7 + (i >>> 6)) & 0xff));
  return memory;
}

const mappings = fc.uniqueArray(
  fc.record({
    page: fc.integer({ min: 0, max: 9 }),
    target: fc.integer({ min: 0, max: memoryPages }),
    access: fc.integer({ min: 1, max: 3 }),
  }),
  { selector: (m) => m.page, maxLength: 10, size: "max" },
);
const access = fc.record({
  isWrite: fc.boolean(),
  inWords: fc.boolean(),
  iova: fc.integer({ min: 0, max: 10 * pageBytes }),
  length: fc.integer({ min: 4, max: 4 * pageBytes }),
  offset: fc.integer({ min: 0, max: 9 }),
});

/** The address of each byte, or the status of the first one that cannot be reached. */
function reference(
  table: Map<number, { target: number; access: number }>,
  iova: number,
  length: number,
  direction: number,
): number[] | DmaStatus {
  const addresses: number[] = [];
  for (let i = 0; i < length; i++) {
    const entry = table.get(Math.floor((iova + i) / pageBytes));
    if (entry === undefined) return DmaStatus.unmapped;
    if ((entry.access & direction) === 0) return DmaStatus.forbidden;
    if (entry.target >= memoryPages) return DmaStatus.unmapped;
    addresses.push(entry.target * pageBytes + ((iova + i) % pageBytes));
  }
  return addresses;
}

test("every access moves exactly the bytes that a byte-by-byte translation would, or nothing and a recorded fault", () => {
  fc.assert(
    fc.property(mappings, fc.array(access, { maxLength: 8 }), (list, accesses) => {
      const memory = patterned();
      const domain = new Domain({ pageBytes });
      const table = new Map(list.map((m) => [m.page, m]));
      for (const m of list) {
        domain.map({
          iova: m.page * pageBytes,
          address: m.target * pageBytes,
          lengthBytes: pageBytes,
          access: m.access,
        });
      }
      const witness = new Witness(memory);
      const dma = new GuestDma({ memory, domain, observers: [witness] });
      const buffer = new Uint8Array(8 * pageBytes);
      const words = new Uint32Array(buffer.buffer);
      for (const { isWrite, inWords, ...wanted } of accesses) {
        const iova = inWords ? wanted.iova & ~3 : wanted.iova;
        const length = inWords ? wanted.length & ~3 : wanted.length;
        const offset = inWords ? 0 : wanted.offset;
        const where = reference(table, iova, length, isWrite ? DmaAccess.write : DmaAccess.read);
        const expectedMemory = Uint8Array.from(memory.bytes());
        buffer.forEach((_, i) => (buffer[i] = (i * 13 + iova) & 0xff));
        const expectedBuffer = Uint8Array.from(buffer);
        if (typeof where !== "number") {
          where.forEach((address, i) => {
            if (isWrite) expectedMemory[address] = buffer[offset + i] ?? 0;
            else expectedBuffer[offset + i] = memory.bytes()[address] ?? 0;
          });
        }
        const faultsBefore = domain.faults.total;
        const piecesBefore = witness.pieces.length;
        let status: DmaStatus;
        if (isWrite && inWords) status = dma.writeWords(iova, words, length / 4, tag);
        else if (isWrite) status = dma.writeBytes(iova, buffer, offset, length, tag);
        else if (inWords) status = dma.readWords(iova, words, length / 4);
        else status = dma.readBytes(iova, buffer, offset, length);
        assert.equal(status, typeof where === "number" ? where : DmaStatus.ok);
        assert.equal(domain.faults.total - faultsBefore, typeof where === "number" ? 1 : 0);
        assert.deepEqual(memory.bytes(), expectedMemory);
        assert.deepEqual(buffer, expectedBuffer);
        const pieces = witness.pieces.slice(piecesBefore);
        if (!isWrite || typeof where === "number") assert.equal(pieces.length, 0);
        else {
          assert.deepEqual(
            pieces.flatMap((p) => Array.from({ length: p.length }, (_, i) => p.address + i)),
            where,
          );
          assert.ok(pieces.every((p) => p.tag === tag));
          assert.deepEqual(
            pieces.flatMap((p) => p.now),
            [...buffer.subarray(offset, offset + length)],
          );
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("long copies, which take another path than short ones, move the same bytes at every alignment", () => {
  const memory = new BufferMemory(16_384);
  const dma = new GuestDma({ memory, domain: new IdentityDomain() });
  const source = Uint8Array.from({ length: 9000 }, (_, i) => (i * 31) & 0xff);
  for (const length of [1021, 1023, 1024, 1025, 1514, 8000]) {
    for (const offset of [0, 1, 2, 4]) {
      for (const iova of [0, 3, 4096, 4098]) {
        memory.bytes().fill(0);
        assert.equal(dma.writeBytes(iova, source, offset, length, tag), DmaStatus.ok);
        assert.deepEqual(memory.bytes().slice(iova, iova + length), source.slice(offset, offset + length));
        assert.equal(memory.bytes()[iova + length], 0);
        const target = new Uint8Array(9000);
        assert.equal(dma.readBytes(iova, target, offset, length), DmaStatus.ok);
        assert.deepEqual(target.slice(offset, offset + length), source.slice(offset, offset + length));
        assert.equal(target[offset + length], 0);
      }
    }
  }
});

test("without an IOMMU an access that touches a byte beyond RAM is a fault and transfers nothing", () => {
  const memory = patterned();
  const domain = new IdentityDomain();
  const dma = new GuestDma({ memory, domain });
  const before = Uint8Array.from(memory.bytes());
  for (const iova of [memoryBytes - 3, memoryBytes, 0xfee0_0000, Number.MAX_SAFE_INTEGER]) {
    assert.equal(dma.writeBytes(iova, new Uint8Array(4), 0, 4, tag), DmaStatus.unmapped);
  }
  assert.deepEqual(memory.bytes(), before);
  assert.equal(domain.faults.total, 4);
});

test("the fault log keeps the first faults, counts all, and starts anew when cleared", () => {
  const domain = new IdentityDomain();
  const dma = new GuestDma({ memory: patterned(), domain });
  for (let i = 0; i < 1000; i++) dma.readBytes(memoryBytes + i, new Uint8Array(1), 0, 1);
  assert.equal(domain.faults.recorded.length, 64);
  assert.equal(domain.faults.total, 1000);
  assert.deepEqual(domain.faults.recorded[0], {
    iova: memoryBytes,
    lengthBytes: 1,
    access: DmaAccess.read,
    status: DmaStatus.unmapped,
  });
  domain.faults.clear();
  assert.deepEqual([domain.faults.recorded.length, domain.faults.total], [0, 0]);
});

test("an observer that was removed sees nothing more", () => {
  const memory = patterned();
  const dma = new GuestDma({ memory, domain: new IdentityDomain() });
  const witness = new Witness(memory);
  dma.addObserver(witness);
  dma.writeBytes(0, new Uint8Array(4), 0, 4, tag);
  dma.removeObserver(witness);
  dma.writeBytes(0, new Uint8Array(4), 0, 4, tag);
  assert.equal(witness.pieces.length, 1);
});

test("the machine hears of each piece of memory that the device wrote", () => {
  const heard: [number, number][] = [];
  const deviceWrote = (address: number, length: number): void => void heard.push([address, length]);
  const memory: GuestMemory = Object.assign(new BufferMemory(memoryBytes, { pageBytes }), { deviceWrote });
  const domain = new Domain({ pageBytes });
  domain.map({ iova: 0, address: 4 * pageBytes, lengthBytes: pageBytes, access: 3 });
  domain.map({ iova: pageBytes, address: 2 * pageBytes, lengthBytes: pageBytes, access: 3 });
  const dma = new GuestDma({ memory, domain });
  dma.writeBytes(pageBytes - 8, new Uint8Array(16), 0, 16, tag);
  dma.writeWords(2 * pageBytes - 4, new Uint32Array(1), 1, tag);
  assert.deepEqual(heard, [
    [5 * pageBytes - 8, 8],
    [2 * pageBytes, 8],
    [3 * pageBytes - 4, 4],
  ]);
});
