import assert from "node:assert/strict";
import { openSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { nativeOrNotRun, openDescriptors } from "./native.fixture.ts";
import { SharedMemory, SHARED_MEMORY_BYTES_MAX } from "./shared-memory.ts";
import { socketDirectory } from "./vfio-user/channel.fixture.ts";

const MIB = 0x10_0000;

/** What a client's own descriptor of the same file is called here. */
function again(descriptor: number, flags = "r+"): number {
  return openSync(`/proc/self/fd/${descriptor}`, flags);
}

/** Why a descriptor was refused; nothing when it was taken. */
function refusal(memory: SharedMemory, descriptor: number, offset: number, lengthBytes: number): string {
  const adoption = memory.adopt(descriptor, offset, lengthBytes);
  return "refused" in adoption ? adoption.refused : "";
}

test("what one side of the file writes the other reads, and an address is an offset in it", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const [memory, other] = [new SharedMemory(native), new SharedMemory(native)];
  assert.equal(memory.isKnown, false);
  assert.throws(() => memory.sizeBytes, /RAM is not known/);
  const file = native.memfd("ram", 2 * MIB);
  assert.deepEqual(memory.adopt(again(file), 0, MIB), { address: 0 });
  assert.deepEqual(memory.adopt(again(file), MIB, MIB), { address: MIB });
  assert.deepEqual(other.adopt(file, 4096, 4096), { address: 4096 });
  assert.deepEqual([memory.sizeBytes, memory.pages.count], [2 * MIB, 512]);
  other.bytes().set([1, 2, 3, 4], MIB);
  assert.deepEqual(memory.bytes().slice(MIB, MIB + 4), new Uint8Array([1, 2, 3, 4]));
  assert.equal(memory.wordInOrder(MIB / 4), 0x0403_0201);
  assert.equal(memory.words().length, (2 * MIB) / 4);
  for (const one of [memory, other]) one.release();
});

test("whoever waits for RAM is told each time that it becomes known", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native);
  let [early, late] = [0, 0];
  const forget = memory.onKnown(() => early++);
  const file = native.memfd("ram", MIB);
  memory.adopt(again(file), 0, 4096);
  memory.adopt(again(file), 4096, 4096);
  memory.onKnown(() => late++);
  assert.deepEqual([early, late], [1, 1]);
  memory.release();
  forget();
  memory.adopt(file, 0, 4096);
  assert.deepEqual([early, late], [1, 2]);
  memory.release();
});

test("what cannot be the guest's RAM is refused in a sentence, and its descriptor closed", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native);
  const plain = path.join(socketDirectory(t), "plain");
  writeFileSync(plain, new Uint8Array(MIB));
  const sealed = native.memfd("ram", MIB);
  const before = openDescriptors();
  assert.match(refusal(memory, openSync("/dev/zero", "r+"), 0, 4096), /not inside the file of 0 bytes/);
  assert.match(refusal(memory, native.memfd("ram", 4097), 0, 4096), /4097 bytes are not whole pages/);
  assert.match(refusal(memory, native.memfd("ram", 0), 0, 4096), /not inside/);
  const huge = SHARED_MEMORY_BYTES_MAX + 4096;
  assert.match(refusal(memory, native.memfd("ram", huge), 0, 4096), /where 8589934592 are the most/);
  assert.match(
    refusal(memory, native.memfd("ram", MIB, { isSealed: false }), 0, 4096),
    /memory-backend-memfd,share=on/,
  );
  assert.match(refusal(memory, openSync(plain, "r+"), 0, 4096), /memory-backend-memfd,share=on/);
  assert.match(refusal(memory, again(sealed, "r"), 0, 4096), /not opened for reading and writing/);
  assert.match(refusal(memory, again(sealed), MIB - 4096, 8192), /8192 bytes at 1044480 are not inside/);
  assert.equal(memory.isKnown, false);
  assert.deepEqual(memory.adopt(again(sealed), 0, 4096), { address: 0 });
  assert.match(refusal(memory, native.memfd("more", MIB), 0, 4096), /another file than the guest's RAM/);
  memory.release();
  assert.equal(openDescriptors(), before);
  native.closeDescriptor(sealed);
});

test("a range is taken when it lies in the file, and only then", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native);
  const file = native.memfd("ram", MIB);
  const number = fc.oneof(
    fc.integer({ min: -4096, max: 2 * MIB }),
    fc.maxSafeInteger(),
    fc.double(),
    fc.constantFrom(0, MIB, 2 ** 63, 2 ** 64),
  );
  const before = openDescriptors();
  fc.assert(
    fc.property(number, number, (offset, lengthBytes) => {
      const isInside =
        Number.isInteger(offset) && Number.isInteger(lengthBytes) && offset >= 0 && lengthBytes > 0 && offset < MIB;
      const isTaken = "address" in memory.adopt(again(file), offset, lengthBytes);
      assert.equal(isTaken, isInside && lengthBytes <= MIB - offset);
    }),
    { numRuns: 300 },
  );
  assert.equal(openDescriptors(), before);
  memory.release();
  native.closeDescriptor(file);
});

test("memory without the seal is mapped only when it is allowed", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native, { allowUnsealed: true });
  const plain = path.join(socketDirectory(t), "plain");
  writeFileSync(plain, new Uint8Array(MIB).fill(5));
  assert.deepEqual(memory.adopt(openSync(plain, "r+"), 0, MIB), { address: 0 });
  assert.equal(memory.bytes()[MIB - 1], 5);
  memory.release();
  truncateSync(plain, 0);
  assert.equal(memory.isKnown, false);
});

test("arrays of a client that is gone show zeros, and later clients' RAM takes no more addresses", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native);
  const first = native.memfd("ram", 2 * MIB);
  memory.adopt(again(first), 0, MIB);
  const [bytes, words] = [memory.bytes(), memory.words()];
  bytes.fill(7);
  memory.release();
  memory.release();
  assert.ok(bytes.every((byte) => byte === 0));
  bytes[0] = 9;
  assert.equal(Atomics.load(words, 0), 9);
  assert.equal(memory.isKnown, false);
  // Who was in the middle of something asks once more, and must not end this process by it.
  assert.equal(memory.bytes().length, 2 * MIB);

  for (const sizeBytes of [2 * MIB, 4096, MIB, 2 * MIB]) {
    const file: number = native.memfd("ram", sizeBytes);
    assert.deepEqual(memory.adopt(file, 0, 4096), { address: 0 });
    assert.equal(memory.bytes().buffer, bytes.buffer, "another range of addresses was taken");
    assert.deepEqual([memory.bytes().length, memory.bytes()[0]], [sizeBytes, 0]);
    memory.release();
  }
  memory.adopt(first, 0, MIB);
  assert.equal(memory.bytes()[2 * MIB - 1], 7, "the file kept what was written before");
  memory.release();

  memory.adopt(native.memfd("larger", 3 * MIB), 0, 4096);
  assert.notEqual(memory.bytes().buffer, bytes.buffer);
  assert.equal(bytes[0], 0);
  memory.release();
});

test("the largest guest fits, to its last word", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const memory = new SharedMemory(native);
  const file = native.memfd("ram", SHARED_MEMORY_BYTES_MAX);
  const last = SHARED_MEMORY_BYTES_MAX / 4 - 1;
  assert.deepEqual(memory.adopt(file, SHARED_MEMORY_BYTES_MAX - 4096, 4096), {
    address: SHARED_MEMORY_BYTES_MAX - 4096,
  });
  memory.words()[last] = 0x1234_5678;
  assert.equal(memory.wordInOrder(last), 0x1234_5678);
  assert.equal(memory.bytes()[SHARED_MEMORY_BYTES_MAX - 4], 0x78);
  memory.release();
});
