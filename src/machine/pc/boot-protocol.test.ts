import assert from "node:assert/strict";
import { test } from "node:test";
import { checkedKernel, placeInitrd } from "./boot-protocol.ts";

/** A header as Debian's 6.1 for 686 has it: preferred at 16 MiB, 27 MiB to start in, initrd below 896 MiB. */
function someKernel(bytes = 0x400): Uint8Array {
  const kernel = new Uint8Array(bytes);
  const view = new DataView(kernel.buffer);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint32(0x22c, 0x37ff_ffff, true);
  view.setUint32(0x258, 16 << 20, true);
  view.setUint32(0x260, 27 << 20, true);
  return kernel;
}

test("only a bzImage is a kernel, and its length is made a multiple of 4", () => {
  assert.equal(checkedKernel(someKernel(0x401)).length, 0x404);
  const bad = someKernel();
  bad[0x202] = 0;
  for (const bytes of [bad, new Uint8Array(0), new Uint8Array(0x300), someKernel().subarray(0, 0x260)]) {
    assert.throws(() => checkedKernel(bytes), { code: "kernel-invalid" });
  }
});

test("the initrd lies below the firmware's part of RAM, and the header in memory says where", () => {
  const ram = new Uint8Array(64 << 20);
  const initrd = new Uint8Array(2_000_001).fill(7);
  placeInitrd(ram, someKernel(), initrd);
  const loaded = new DataView(ram.buffer, 0x8_0000);
  const address = loaded.getUint32(0x218, true);
  assert.equal(loaded.getUint32(0x21c, true), initrd.length);
  assert.equal(address % 4096, 0);
  assert.ok(address + initrd.length <= 63 << 20 && address + initrd.length > (63 << 20) - 4096);
  assert.equal(Buffer.compare(ram.subarray(address, address + initrd.length), initrd), 0);
});

test("an initrd that would overlap the kernel is refused", () => {
  assert.throws(() => placeInitrd(new Uint8Array(64 << 20), someKernel(), new Uint8Array(21 << 20)), {
    code: "memory-too-small",
  });
});
