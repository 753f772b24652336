import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import {
  anyStream,
  encodeStream,
  guestRam,
  recordsOf,
  smallStream,
  type RamRecord,
  type StreamDescription,
} from "./migration-stream.fixture.ts";
import { MigrationStream } from "./migration-stream.ts";
import { ramWord, RamFlag, RAM_PAGE_BYTES } from "./stream-words.ts";

function reader(stateBytesMax?: number): { stream: MigrationStream; dirty: number[] } {
  const dirty: number[] = [];
  const stream = new MigrationStream({
    isGuestRam: ({ name }) => name === guestRam.name,
    onDirtyPage: (page) => dirty.push(page),
    ...(stateBytesMax === undefined ? {} : { stateBytesMax }),
  });
  return { stream, dirty };
}

function read(bytes: Uint8Array): ReturnType<typeof reader> {
  const one = reader();
  one.stream.push(bytes);
  return one;
}

/** What is left of it for a destination: the guest's RAM gone, the other blocks' pages once each, as they were last sent. */
function withoutGuestRam(description: StreamDescription): StreamDescription {
  const last = new Map<string, Map<number, RamRecord>>();
  for (const record of recordsOf(description)) {
    if (record.block === guestRam.name) continue;
    const pages = last.get(record.block) ?? new Map<number, RamRecord>();
    last.set(record.block, pages.set(record.page, record));
  }
  return {
    ...description,
    sent: description.sent.filter(({ kind }) => kind === "command"),
    last: [...last.values()].flatMap((pages) => Array.from(pages.values())),
  };
}

test("however a stream is cut, each record of guest RAM is a dirty page, and the stream ends with its last byte", () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(anyStream(), cuts, (description, sizes) => {
      const bytes = encodeStream(description);
      const { stream, dirty } = reader();
      for (let at = 0, i = 0; at < bytes.length; i++) {
        assert.equal(stream.isComplete, false);
        const size = sizes[i % sizes.length] ?? 1;
        stream.push(bytes.slice(at, at + size));
        at += size;
      }
      const sent = recordsOf(description).filter(({ block }) => block === guestRam.name);
      assert.deepEqual(
        dirty,
        sent.map(({ page }) => page),
      );
      assert.ok(stream.isRamComplete && stream.isComplete);
    }),
    { numRuns: 150 },
  );
});

test("one byte at a time says the same as all at once", () => {
  const bytes = encodeStream(smallStream);
  const { stream, dirty } = reader();
  for (const byte of bytes) {
    assert.equal(stream.isComplete, false);
    stream.push(Uint8Array.of(byte));
  }
  assert.deepEqual(dirty, [0, 1, 7]);
  assert.deepEqual(stream.machineState(), read(bytes).stream.machineState());
});

test("the machine's state is the stream without guest RAM, and with every other page once, as it was last sent", () => {
  fc.assert(
    fc.property(anyStream(), (description) => {
      const state = read(encodeStream(description)).stream.machineState();
      assert.equal(Buffer.compare(state, encodeStream(withoutGuestRam(description), true)), 0);
      const again = read(state);
      assert.ok(again.stream.isComplete);
      assert.deepEqual(again.dirty, []);
      assert.equal(Buffer.compare(again.stream.machineState(), state), 0);
    }),
    { numRuns: 150 },
  );
});

test("nothing of what came is held on to once it was read", () => {
  const { stream } = reader();
  const bytes = Buffer.from(encodeStream(smallStream));
  stream.push(bytes);
  const state = Buffer.from(stream.machineState());
  bytes.fill(0x55);
  assert.equal(Buffer.compare(stream.machineState(), state), 0);
});

test("a page is dirty as soon as its record begins, before its bytes have come", () => {
  const description = { ...smallStream, sent: [], last: [{ block: "ram", page: 5, fill: 1 }] };
  const bytes = encodeStream(description);
  const { stream, dirty } = reader();
  stream.push(bytes.slice(0, Buffer.from(bytes).indexOf(ramWord(5, RamFlag.page)) + 12));
  assert.deepEqual(dirty, [5]);
});

test("RAM is complete with its last section, whatever of the devices has come", () => {
  const bytes = encodeStream(smallStream);
  const tailBytes = smallStream.devices.length + 6 + smallStream.text.length;
  const { stream } = reader();
  stream.push(bytes.slice(0, bytes.length - tailBytes - 1));
  assert.equal(stream.isRamComplete, false);
  stream.push(bytes.slice(bytes.length - tailBytes - 1, bytes.length - tailBytes));
  assert.ok(stream.isRamComplete && !stream.isComplete);
});

test("what looks like a description among the devices' bytes does not end the stream", () => {
  const decoy = Buffer.concat([Uint8Array.of(0, 6, 0, 0, 0, 9), Buffer.from('{"a":"b"}')]);
  const devices = Buffer.concat([decoy, Uint8Array.of(4, 1, 2)]);
  const { stream } = read(encodeStream({ ...smallStream, devices }));
  assert.ok(stream.isComplete);
  stream.push(Uint8Array.of(0x7d));
  assert.equal(stream.isComplete, false, "something after the end");
});

/** A stream with some bytes put in place of others behind a mark. */
function changed(mark: Uint8Array | string, change: Uint8Array, skip = 0): Uint8Array {
  const bytes = Buffer.from(encodeStream(smallStream));
  const at = bytes.indexOf(mark);
  assert.ok(at >= 0, "the mark is there");
  bytes.set(change, at + skip);
  return bytes;
}

const vga = smallStream.blocks[1] ?? guestRam;
const pageOne = ramWord(1, RamFlag.page | RamFlag.sameBlock);
const refused: Record<string, [Uint8Array, RegExp]> = {
  "no magic": [changed("QEVM", Uint8Array.of(0)), /does not begin as one/],
  "TLS instead of a stream": [changed("QEVM", Uint8Array.of(0x16, 3, 1)), /does not begin as one/],
  "another version": [changed("QEVM", Uint8Array.of(2), 7), /does not begin as one/],
  "an endless machine name": [changed("pc-q35", Uint8Array.of(0xff), -4), /a machine name of \d+ bytes/],
  "an unknown subsection": [changed("configuration/uuid", Uint8Array.of(0x41)), /the subsection Aonfiguration/],
  "another section than RAM": [changed("\u0003ram", Uint8Array.of(0x73), 1), /a section sam that is sent/],
  "a page of no block": [changed(pageOne, ramWord(8, RamFlag.page | RamFlag.sameBlock)), /a page of no block/],
  "a page beyond 2^53": [changed(pageOne, new Uint8Array(7).fill(0xff)), /a length or an address/],
  "a page of another form": [changed(pageOne, ramWord(1, 0x100)), /a record of RAM with flags 256/],
  "no RAM of the guest": [
    encodeStream({ ...smallStream, blocks: [vga], sent: [], last: [] }),
    /0 blocks of RAM that may be the guest's/,
  ],
  "a block that is there twice": [
    encodeStream({ ...smallStream, blocks: [guestRam, vga, vga] }),
    /two blocks of RAM called 0000:00:01.0/,
  ],
  "endless empty blocks": [
    encodeStream({
      ...smallStream,
      blocks: [...Array.from({ length: 2000 }, (_, i) => ({ name: `${i}`, usedBytes: 0 })), guestRam],
    }),
    /more than 1024 blocks/,
  ],
  "blocks beyond their sum": [
    changed("\u0003ram\0\0\0\0\0\0\0\u0004", Uint8Array.of(0, 0, 0, 0, 0, 0, 0x10, 4), 12),
    /blocks of RAM beyond their sum/,
  ],
};
for (const [what, [bytes, message]] of Object.entries(refused)) {
  test(`${what} is refused, and nothing is taken after it`, () => {
    const { stream, dirty } = reader();
    const fails = (): void => stream.push(bytes.slice());
    assert.throws(fails, (error) => error instanceof OperationError && message.test(error.message));
    const before = dirty.length;
    assert.throws(fails, { code: "qemu-stream-unknown", message });
    assert.equal(dirty.length, before);
    assert.ok(!stream.isRamComplete && !stream.isComplete);
  });
}

test("RAM that begins twice is refused", () => {
  const start = Buffer.from(encodeStream(smallStream));
  const from = start.indexOf("\u0003ram") - 5;
  const to = start.indexOf(Uint8Array.of(0x7e, 0, 0, 0, 2), from) + 5;
  const twice = Buffer.concat([start.subarray(0, to), start.subarray(from, to)]);
  assert.throws(() => read(twice), /RAM that begins twice/);
});

test("no more is held of a stream than a machine can have: devices, its own RAM, and what stands beside RAM", () => {
  const max = 4 * RAM_PAGE_BYTES;
  const refuses = (description: StreamDescription, message: RegExp): void => {
    const { stream } = reader(max);
    assert.throws(() => stream.push(encodeStream(description)), { code: "qemu-stream-unknown", message });
  };
  refuses({ ...smallStream, devices: new Uint8Array(max) }, /devices of more than 16384 bytes/);
  const big = { name: "big", usedBytes: 1000 * RAM_PAGE_BYTES };
  const last = Array.from({ length: 200 }, (_, page) => ({ block: "big", page, fill: 0 }));
  refuses({ ...smallStream, blocks: [guestRam, big], sent: [], last }, /more RAM of the machine's own/);
  const same = Array.from({ length: 200 }, () => ({ block: "big", page: 1, fill: 5 }));
  const { stream } = reader(max);
  stream.push(encodeStream({ ...smallStream, blocks: [guestRam, big], sent: [], last: same }));
  assert.ok(stream.isComplete, "the same page again takes no more");
  const commands = Array.from({ length: 40 }, () => ({
    kind: "command" as const,
    number: 9,
    payload: new Uint8Array(0xffff),
  }));
  refuses({ ...smallStream, commands }, /more than 1048576 bytes beside RAM/);
});
