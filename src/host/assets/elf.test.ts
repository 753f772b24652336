import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import fc from "fast-check";
import { neededLibraries } from "./elf.ts";

test("a program's libraries are among those that the loader puts into it", async () => {
  const maps = execFileSync("cat", ["/proc/self/maps"], { encoding: "utf8" });
  const program = /\/\S*bin\/\S+$/m.exec(maps)?.[0] ?? "";
  const needed = neededLibraries(await readFile(program));
  assert.ok(needed.length > 0, program);
  for (const name of needed) assert.ok(maps.includes(`/${name}`), `${name} is not mapped`);
});

test("what is no ELF file needs nothing", () => {
  assert.deepEqual(
    neededLibraries(Buffer.from("#!/bin/sh\necho this is a script that is long enough to hold a header\n")),
    [],
  );
  assert.deepEqual(neededLibraries(new Uint8Array(0)), []);
});

test("a program damaged anywhere gives names or none, and never throws", async () => {
  const whole = (await readFile("/bin/true")).subarray(0, 65_536);
  const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 30 });
  fc.assert(
    fc.property(damage, fc.nat(whole.length), (changes, length) => {
      const bytes = Uint8Array.from(whole);
      // Half of the changes go where the tables of the file are told.
      for (const [index, [at, value]] of changes.entries()) bytes[index % 2 === 0 ? at : at % 1024] = value;
      bytes.set(whole.subarray(0, 6));
      assert.ok(Array.isArray(neededLibraries(bytes.subarray(0, Math.max(length, 6)))));
    }),
    { numRuns: 300 },
  );
});
