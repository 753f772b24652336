// DMA logging: its bitmap against a plain set of pages, and the messages that start, report and stop it.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaLog, ServedDma } from "./dma-log.ts";
import { Command, Errno } from "./protocol.ts";
import { pack, PAGE, ServedGuest } from "./served.fixture.ts";

const GET = 0x1_0000;
const SET = 0x2_0000;

function bitmapOf(log: DmaLog, iova: number, lengthBytes: number, pageBytes = PAGE): Uint8Array {
  const range = { iova, lengthBytes, pageBytes };
  const bitmap = new Uint8Array(log.reportBytes(range) ?? assert.fail("the range makes no sense"));
  log.report(range, bitmap);
  return bitmap;
}

function pagesOf(bitmap: Uint8Array): number[] {
  return Array.from({ length: bitmap.length * 8 }, (_, bit) => bit).filter(
    (bit) => ((bitmap[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0,
  );
}

test("a report is the pages written since the last, at any page size, and nothing outside the range", () => {
  const writes = fc.array(fc.tuple(fc.nat(400 * PAGE), fc.integer({ min: 1, max: 3 * PAGE })), { maxLength: 20 });
  const range = fc.tuple(fc.nat(200), fc.integer({ min: 1, max: 200 }), fc.integer({ min: 0, max: 5 }));
  const property = fc.property(writes, range, (written, [firstPage, pages, shift]) => {
    const base = 3 * 2 ** 27 - 200 * PAGE;
    const log = new DmaLog();
    log.start();
    const expected = new Set<number>();
    for (const [offset, length] of written) {
      log.mark(base + offset, length);
      const last = Math.floor((offset + length - 1) / PAGE);
      for (let page = Math.floor(offset / PAGE); page <= last; page++) {
        if (page >= firstPage && page < firstPage + pages) expected.add((page - firstPage) >>> shift);
      }
    }
    const [iova, length] = [base + firstPage * PAGE, pages * PAGE];
    const bits = pagesOf(bitmapOf(log, iova, length, PAGE << shift));
    assert.deepEqual(
      bits,
      [...expected].sort((a, b) => a - b),
    );
    assert.deepEqual(pagesOf(bitmapOf(log, iova, length)), [], "it was forgotten");
  });
  fc.assert(property, { seed: 4, numRuns: 200 });
});

test("the mark comes after the write", () => {
  const log = new DmaLog();
  const order: string[] = [];
  const dma = new ServedDma(log);
  const marked = (): boolean => pagesOf(bitmapOf(log, 0, PAGE)).length > 0;
  const port = {
    readWords: () => 0 as const,
    readBytes: () => 0 as const,
    writeWords: () => (order.push(marked() ? "marked early" : "written"), 0 as const),
    writeBytes: () => (order.push(marked() ? "marked early" : "written"), 0 as const),
  };
  dma.connect(port);
  log.start();
  dma.writeBytes(0, new Uint8Array(1), 0, 1, 0);
  assert.ok(marked());
  dma.writeWords(0, new Uint32Array(1), 1, 0);
  assert.ok(marked());
  assert.deepEqual(order, ["written", "written"]);
});

test("reads and writes that faulted are not logged, nor is anything while the log is stopped", () => {
  const guest = new ServedGuest().negotiate();
  guest.map(0, 4 * PAGE);
  guest.dma.writeBytes(0, new Uint8Array(4), 0, 4, 0);
  guest.log.start();
  guest.dma.readBytes(PAGE, new Uint8Array(4), 0, 4);
  guest.dma.writeBytes(9 * PAGE, new Uint8Array(4), 0, 4, 0);
  guest.dma.writeWords(2 * PAGE, new Uint32Array(4), 4, 0);
  assert.deepEqual(pagesOf(bitmapOf(guest.log, 0, 16 * PAGE)), [2]);
});

test("a port that leads nowhere transfers nothing", () => {
  const dma = new ServedDma(new DmaLog());
  assert.equal(dma.readBytes(0, new Uint8Array(4), 0, 4), 1);
  assert.equal(dma.readWords(0, new Uint32Array(4), 4), 1);
  assert.equal(dma.writeBytes(0, new Uint8Array(4), 0, 4, 0), 1);
  assert.equal(dma.writeWords(0, new Uint32Array(4), 4, 0), 1);
});

test("when the device writes wider than the log can hold, all of memory is dirty until logging starts anew", () => {
  const log = new DmaLog();
  log.start();
  for (let piece = 0; piece <= 4096; piece++) log.mark(piece * 2 ** 27, 1);
  assert.deepEqual(pagesOf(bitmapOf(log, 2 ** 45, 11 * PAGE)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(pagesOf(bitmapOf(log, 2 ** 45, 11 * PAGE)).length, 11);
  log.start();
  assert.deepEqual(pagesOf(bitmapOf(log, 0, 11 * PAGE)), []);
});

test("logging is started, reported and stopped by messages, with the bits as the specification lays them out", () => {
  const guest = new ServedGuest().negotiate();
  guest.map(0, 100 * PAGE);
  const start = pack([4, 40], [4, SET | 6], [8, 65_536], [4, 1], [4, 0], [8, 0], [8, 100 * PAGE]);
  const started = guest.ask(Command.deviceFeature, start);
  assert.deepEqual(started, pack([4, 40], [4, SET | 6], [8, 4096], [4, 1], [4, 0], [8, 0], [8, 100 * PAGE]));
  assert.equal(guest.errorOf(Command.deviceFeature, start), Errno.invalid, "it runs already");

  guest.dma.writeBytes(66 * PAGE - 1, new Uint8Array(2), 0, 2, 0);
  const report = pack([4, 48], [4, GET | 8], [8, PAGE], [8, 99 * PAGE], [8, PAGE]);
  const reported = guest.ask(Command.deviceFeature, report);
  const head = pack([4, 48], [4, GET | 8], [8, PAGE], [8, 99 * PAGE], [8, PAGE]);
  assert.deepEqual(reported, new Uint8Array([...head, ...pack([8, 0], [8, 3])]));
  assert.deepEqual(guest.ask(Command.deviceFeature, report).slice(32), pack([8, 0], [8, 0]));

  const stop = pack([4, 8], [4, SET | 7]);
  assert.deepEqual(guest.ask(Command.deviceFeature, stop), stop);
  assert.equal(guest.errorOf(Command.deviceFeature, report), Errno.invalid);
});

test("reports that make no sense, or have no room, are refused and forget nothing", () => {
  const guest = new ServedGuest().negotiate();
  guest.map(0, PAGE);
  guest.log.start();
  guest.dma.writeBytes(0, new Uint8Array(1), 0, 1, 0);
  const refused = [
    [40, 0, PAGE, 1000],
    [40, 0, PAGE, 2048],
    [40, 0, PAGE, 3 * 4096],
    [40, 17, PAGE, PAGE],
    [40, 0, PAGE + 1, PAGE],
    [40, 0, 0, PAGE],
    [40, 2 ** 63, PAGE, PAGE],
    [2 ** 31, 0, 2 ** 52, PAGE],
    [39, 0, PAGE, PAGE],
  ] as const;
  for (const [argsz, iova, length, pageBytes] of refused) {
    const request = pack([4, argsz], [4, GET | 8], [8, iova], [8, length], [8, pageBytes]);
    assert.equal(guest.errorOf(Command.deviceFeature, request), Errno.invalid);
  }
  assert.deepEqual(pagesOf(bitmapOf(guest.log, 0, PAGE)), [0]);
});

test("starting with odd page sizes, empty ranges or fewer ranges than announced is refused", () => {
  const guest = new ServedGuest().negotiate();
  const wrong = [
    pack([4, 24], [4, SET | 6], [8, 0], [4, 0], [4, 0]),
    pack([4, 24], [4, SET | 6], [8, 5000], [4, 0], [4, 0]),
    pack([4, 24], [4, SET | 6], [8, PAGE], [4, 1], [4, 0]),
    pack([4, 24], [4, SET | 6], [8, PAGE], [4, 0], [4, 1]),
    pack([4, 40], [4, SET | 6], [8, PAGE], [4, 1], [4, 0], [8, 0], [8, 0]),
    pack([4, 24], [4, SET | 6], [8, PAGE], [4, 0xffff_ffff], [4, 0]),
    pack([4, 8], [4, SET | 6]),
  ];
  for (const request of wrong) assert.equal(guest.errorOf(Command.deviceFeature, request), Errno.invalid);
  assert.equal(guest.log.isRunning, false);
  guest.ask(Command.deviceFeature, pack([4, 24], [4, SET | 6], [8, PAGE], [4, 0], [4, 0]));
  assert.ok(guest.log.isRunning);
});
