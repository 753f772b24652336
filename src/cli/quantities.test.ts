import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import {
  counted,
  formatBytes,
  formatMs,
  formatRate,
  formatSize,
  parseChoice,
  parseRate,
  parseSize,
  parseWholeNumber,
} from "./quantities.ts";

const MIB = 1 << 20;
const bounds = { min: 64 * MIB, max: 1024 * MIB };
const refused = (error: unknown): boolean =>
  error instanceof OperationError && error.code === "usage-invalid-value" && error.facts["option"] === "--x";

test("sizes are binary: 128M, 128MiB and 131072K are the same", () => {
  for (const text of ["128M", "128m", "128MB", "128MiB", "131072K"])
    assert.equal(parseSize("--x", text, bounds), 128 * MIB);
  assert.equal(parseSize("--x", "1G", bounds), 1024 * MIB);
});

test("sizes outside the bounds, in odd units, or not in whole MiB are refused", () => {
  for (const text of ["63M", "2G", "1025M", "128", "128T", "-128M", "1.5G", "65537K", "", " 128M", "0x80M", "M"]) {
    assert.throws(() => parseSize("--x", text, bounds), refused, text);
  }
});

test("rates are decimal bits per second, and bytes where a B says so", () => {
  assert.equal(parseRate("--x", "100M"), 12_500_000);
  assert.equal(parseRate("--x", "1g"), 125_000_000);
  assert.equal(parseRate("--x", "2.5Gbit"), 312_500_000);
  assert.equal(parseRate("--x", "12MB"), 12_000_000);
  assert.equal(parseRate("--x", "10000000"), 1_250_000);
});

test("rates that are none, or that no link has, are refused", () => {
  for (const text of ["fast", "", "0", "-1M", "1kb", "5T", "1..5M", "999K", "2000G", "1M/s"]) {
    assert.throws(() => parseRate("--x", text), refused, text);
  }
});

test("whole numbers within the bounds are read as they are written, and nothing else is", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => {
      assert.equal(parseWholeNumber("--x", String(value), { min: 0, max: 2 ** 32 - 1 }), value);
    }),
  );
  for (const text of ["", "1.5", "1e3", "-1", "4294967296", "seven", "٣", "9".repeat(400)]) {
    assert.throws(() => parseWholeNumber("--x", text, { min: 0, max: 2 ** 32 - 1 }), refused, text);
  }
});

test("a choice that is none names the choices", () => {
  assert.equal(parseChoice("--x", "b", ["a", "b"]), "b");
  assert.throws(
    () => parseChoice("--x", "c", ["a", "b"]),
    (error) => refused(error) && /a, b/.test((error as OperationError).advice),
  );
});

test("quantities are written with three digits and a unit that fits", () => {
  assert.deepEqual([0, 1, 512, 1024, 38_797_312, 128 * MIB, 1.5 * 1024 * MIB].map(formatBytes), [
    "0 bytes",
    "1 byte",
    "512 bytes",
    "1.00 KiB",
    "37.0 MiB",
    "128 MiB",
    "1.50 GiB",
  ]);
  assert.deepEqual([128 * MIB, 1024 * MIB, 1536 * MIB].map(formatSize), ["128 MiB", "1 GiB", "1,536 MiB"]);
  assert.deepEqual([1000, 12_500_000, 1.25e9].map(formatRate), ["8.00 kbit/s", "100 Mbit/s", "10.0 Gbit/s"]);
  assert.deepEqual([0, 0.04, 1.234, 17.44, 412.3, 2310, 200_000].map(formatMs), [
    "0.00 ms",
    "0.04 ms",
    "1.23 ms",
    "17.4 ms",
    "412 ms",
    "2.31 s",
    "3 min 20 s",
  ]);
  assert.deepEqual([counted(1, "frame"), counted(1200, "frame")], ["1 frame", "1,200 frames"]);
});
