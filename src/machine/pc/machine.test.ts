import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import xxhash from "xxhash-wasm";
import { OperationError } from "../../base/errors.ts";
import { SeededRandom } from "../../base/random.ts";
import { PageSet } from "../../memory/page-set.ts";
import { cpuFields, cpuFieldsBytes } from "./cpu-fields.ts";
import { loadPcEmulator } from "./emulator.ts";
import { PcMachine } from "./machine.ts";
import { decodeTree, encodeTree, type StateTree } from "./state-tree.ts";
import { countForEver, halt, setSegments, toyBios } from "./toy-bios.fixture.ts";

const wasm = new Uint8Array(readFileSync(fileURLToPath(new URL("v86.wasm", import.meta.resolve("v86")))));
const emulator = await loadPcEmulator(wasm);
const comparing = await loadPcEmulator(wasm, { dirtyLogMethod: "shadow-compare" });
const memoryBytes = 64 << 20;
const machines: PcMachine[] = [];
after(async () => {
  for (const machine of machines) await machine.close();
});

async function machineWith(code: string, module = emulator): Promise<PcMachine> {
  const machine = await PcMachine.create(module, { memoryBytes, bios: toyBios(code) });
  machines.push(machine);
  return machine;
}

const word = (machine: PcMachine, address: number): number => machine.memory.words()[address >>> 2] ?? 0;

/** Lets the guest run until it did something. */
async function runUntil(machine: PcMachine, isDone: () => boolean): Promise<void> {
  await machine.resume();
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 1));
  await machine.pause();
}

function fetched(machine: PcMachine): number[] {
  const pages = new PageSet(machine.memory.pages.count);
  machine.cpuDirtyLog.fetchAndClear(pages);
  return pages.toArray();
}

test("a new machine stands still, runs when resumed, and stands still again when paused", async () => {
  const machine = await machineWith(countForEver);
  assert.ok(machine.isPaused);
  assert.equal(machine.instructionCount, 0);
  await runUntil(machine, () => word(machine, 0x2_0000) > 1000);
  const [count, time] = [word(machine, 0x2_0000), machine.clock.lastMs];
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(word(machine, 0x2_0000), count);
  assert.equal(machine.clock.lastMs, time);
  await runUntil(machine, () => word(machine, 0x2_0000) !== count);
});

test("pause and resume may be repeated and interleaved without harm", async () => {
  const machine = await machineWith(countForEver);
  await Promise.all([machine.resume(), machine.pause(), machine.pause(), machine.resume(), machine.resume()]);
  assert.ok(!machine.isPaused);
  await runUntil(machine, () => word(machine, 0x2_0000) > 0);
  await machine.pause();
  assert.ok(machine.isPaused);
});

for (const module of [emulator, comparing]) {
  const method = module.dirtyLogMethod;

  test(`the ${method} log names the page a loop writes, in each epoch, and none in an epoch without a run`, async () => {
    const machine = await machineWith(countForEver, module);
    assert.equal(machine.cpuDirtyLog.method, method);
    await runUntil(machine, () => word(machine, 0x2_0000) > 0);
    machine.cpuDirtyLog.start();
    assert.deepEqual(fetched(machine), []);
    for (let epoch = 0; epoch < 3; epoch++) {
      const count = word(machine, 0x2_0000);
      await runUntil(machine, () => word(machine, 0x2_0000) !== count);
      assert.deepEqual(fetched(machine), [0x20]);
    }
    assert.deepEqual(fetched(machine), []);
  });

  test(`the ${method} log has string writes over several pages, pushes, and code that modifies itself`, async () => {
    // rep stosb over 0x20ff0..0x23010; push ax; then, for ever, mov byte [0x5000], imm; inc byte cs:[that imm].
    const fill = "bf f0 0f b9 20 20 b0 77 fc f3 aa 50 ";
    const modifyItself = "b8 00 f0 8e c0 c6 06 00 50 01 26 fe 06 24 00 eb f4";
    const machine = await machineWith(setSegments + fill + modifyItself, module);
    machine.cpuDirtyLog.start();
    await runUntil(machine, () => (word(machine, 0x2_5000) & 0xff) > 3);
    const pages = fetched(machine);
    for (const page of [0x20, 0x21, 0x22, 0x23, 0x25, 0x3f, 0xf0]) assert.ok(pages.includes(page), `page ${page}`);
  });

  test(`a page the device wrote is not in the ${method} log, unless the CPU wrote it as well`, async () => {
    const machine = await machineWith(countForEver, module);
    machine.cpuDirtyLog.start();
    const deviceWrites = (address: number): void => {
      machine.memory.bytes().fill(0xda, address, address + 100);
      machine.memory.deviceWrote(address, 100);
    };
    deviceWrites(0x10_0000);
    deviceWrites(0x2_0800);
    assert.deepEqual(fetched(machine), []);
    const before = word(machine, 0x2_0000);
    await runUntil(machine, () => word(machine, 0x2_0000) !== before);
    deviceWrites(0x20_0ff0);
    deviceWrites(0x2_0900);
    assert.deepEqual(fetched(machine), [0x20]);
  });

  test(`pages put back into the ${method} log come again, once`, async () => {
    const machine = await machineWith(countForEver, module);
    machine.cpuDirtyLog.start();
    machine.cpuDirtyLog.putBack(PageSet.of(machine.memory.pages.count, [5, 0x3000]));
    assert.deepEqual(fetched(machine), [5, 0x3000]);
    assert.deepEqual(fetched(machine), []);
  });
}

test("a binary the rewrite does not know falls back to comparing, and says why; forcing the rewrite is refused", async () => {
  // A custom section at the end is ignored by everything but the hash.
  const other = new Uint8Array([...wasm, 0, 2, 1, 0x78]);
  const fallback = await loadPcEmulator(other);
  assert.equal(fallback.dirtyLogMethod, "shadow-compare");
  assert.equal(fallback.refusal?.reason, "unknown-binary");
  await assert.rejects(loadPcEmulator(other, { dirtyLogMethod: "wasm" }), { code: "emulator-unsupported" });
});

test("a BIOS that does not fit, and a kernel that is none, are typed errors", async () => {
  const bios = toyBios(halt);
  const boot = { kernel: new Uint8Array(1000), initrd: new Uint8Array(1), commandLine: "" };
  const make = (options: object): Promise<PcMachine> => PcMachine.create(emulator, { memoryBytes, bios, ...options });
  await assert.rejects(make({ bios: new Uint8Array(0) }), { code: "firmware-invalid" });
  await assert.rejects(make({ bios: new Uint8Array(0x4_0001) }), { code: "firmware-invalid" });
  await assert.rejects(make({ vgaBios: new Uint8Array(0x1_0001) }), { code: "firmware-invalid" });
  await assert.rejects(make({ boot }), { code: "kernel-invalid" });
});

test("what is not a wasm binary at all is a typed error", async () => {
  await assert.rejects(loadPcEmulator(Uint8Array.of(1, 2, 3)), { code: "emulator-unsupported" });
});

const isZero = (bytes: Uint8Array): boolean => Buffer.compare(bytes, new Uint8Array(bytes.length)) === 0;

async function moved(source: PcMachine): Promise<PcMachine> {
  const destination = await machineWith(halt);
  destination.prepareRestore();
  assert.ok(isZero(destination.memory.bytes()), "RAM of a prepared destination is zero");
  destination.memory.bytes().set(source.memory.bytes());
  destination.restoreState(source.saveState());
  return destination;
}

test("a second machine goes on exactly where the first one stopped", async () => {
  const source = await machineWith(countForEver);
  await runUntil(source, () => word(source, 0x2_0000) > 5000);
  const destination = await moved(source);
  const count = word(source, 0x2_0000);
  assert.equal(word(destination, 0x2_0000), count);
  await runUntil(destination, () => word(destination, 0x2_0000) !== count);
  const [after1, after2] = [
    word(destination, 0x2_0000) - count,
    destination.instructionCount - source.instructionCount,
  ];
  assert.ok(after1 > 0 && after2 > 0);
  assert.equal(word(source, 0x2_0000), count);
});

test("saving is idempotent, and a loaded state saves again as the same bytes but for the clock's ticks", async () => {
  const source = await machineWith(countForEver);
  await runUntil(source, () => word(source, 0x2_0000) > 0);
  const destination = await moved(source);
  const [a, b, c] = [source.saveState(), source.saveState(), destination.saveState()];
  assert.equal(a.length, b.length);
  assert.equal(a.length, c.length);
  const differing = a.filter((byte, index) => byte !== c[index]).length;
  assert.ok(differing < 40, `${differing} bytes differ`);
});

test("the time stamp counter goes on from its value, never back, also into a machine that has run longer", async () => {
  // rdtsc; mov [0], eax; mov [4], edx; for ever
  const readTime = `${setSegments} 0f 31 66 a3 00 00 66 89 16 04 00 eb f3`;
  const time = (machine: PcMachine): number => word(machine, 0x2_0000) + word(machine, 0x2_0004) * 2 ** 32;
  const source = await machineWith(readTime);
  await runUntil(source, () => time(source) > 0);
  const before = time(source);
  const destination = await moved(source);
  await runUntil(destination, () => time(destination) !== before);
  assert.ok(time(destination) > before);
  assert.ok(time(destination) - before < 1e9, "less than a second has passed");
  const older = await moved(destination);
  older.clock.skip(1e7);
  older.restoreState(source.saveState());
  older.memory.bytes().set(source.memory.bytes());
  await runUntil(older, () => time(older) !== before);
  assert.ok(time(older) > before && time(older) - before < 1e9);
});

test("rounding of the FPU and of SSE, which v86's own restore loses, goes with the machine", async () => {
  // ldmxcsr cs:[0x40]; fldcw cs:[0x44]; for ever: fld1; fdiv cs:[0x48]; fstp [8]; inc dword [0]
  const loop = "2e 0f ae 16 40 00 2e d9 2e 44 00 d9 e8 2e d8 36 48 00 d9 1e 08 00 66 ff 06 00 00 eb ee";
  const mxcsrUp = "80 5f 00 00";
  const controlWordDown = "7f 07 00 00";
  const three = "00 00 40 40";
  const padding = "90 ".repeat(0x40 - 0x2c);
  const code = `${setSegments} ${loop} ${padding} ${mxcsrUp} ${controlWordDown} ${three}`;
  const thirdRoundedDown = 0x3eaa_aaaa;
  const source = await machineWith(code);
  await runUntil(source, () => word(source, 0x2_0000) > 0);
  assert.equal(word(source, 0x2_0008), thirdRoundedDown);
  const destination = await moved(source);
  const count = word(source, 0x2_0000);
  await runUntil(destination, () => word(destination, 0x2_0000) > count + 1);
  assert.equal(word(destination, 0x2_0008), thirdRoundedDown);
  const again = await moved(destination);
  const registers = (machine: PcMachine): Uint8Array => {
    const parts = decodeTree(machine.saveState().subarray(20), 1 << 22) as [string, Uint8Array][];
    return parts.find(([name]) => name === "cpu")?.[1] ?? new Uint8Array(0);
  };
  assert.equal(registers(again).length, cpuFieldsBytes);
  assert.deepEqual(registers(again), registers(destination));
  const places = cpuFields.map((_, index) =>
    cpuFields.slice(0, index).reduce((sum, field) => sum + field.sizeBytes, 0),
  );
  const place = places[cpuFields.findIndex(({ name }) => name === "MXCSR")] ?? 0;
  assert.equal(new DataView(registers(again).buffer).getUint32(place, true), 0x5f80);
});

test("no state but one of such a machine is accepted", async () => {
  const source = await machineWith(countForEver);
  await runUntil(source, () => word(source, 0x2_0000) > 0);
  const good = source.saveState();
  const destination = await machineWith(halt);
  const refuses = (bytes: Uint8Array, what: string): void => {
    assert.throws(
      () => destination.restoreState(bytes),
      (error) => error instanceof OperationError && error.code === "machine-state-invalid",
      what,
    );
  };
  for (const length of [0, 7, 19, 20, 100, good.length - 1]) refuses(good.subarray(0, length), `length ${length}`);
  for (const at of [0, 8, 12, 16, 20, 500, good.length - 1]) {
    const bad = good.slice();
    bad[at] = (bad[at] ?? 0) ^ 1;
    refuses(bad, `byte ${at}`);
  }
  refuses(Uint8Array.from([...good, 0]), "a byte too many");
  const other = await PcMachine.create(emulator, { memoryBytes: 2 * memoryBytes, bios: toyBios(halt) });
  machines.push(other);
  refuses(other.saveState(), "another memory size");
  destination.restoreState(good);
});

test("a state with any one number changed, and its hash made right again, is loaded or refused, and nothing else", async () => {
  const source = await machineWith(countForEver);
  await runUntil(source, () => word(source, 0x2_0000) > 0);
  const good = source.saveState();
  const hashes = await xxhash();
  const random = new SeededRandom(82_599);
  const extremes = [0, 1, -1, 0.5, true, 0x7fff_ffff, 1e14, -1e14, undefined, null];
  const destination = await machineWith(halt);
  for (let round = 0; round < 150; round++) {
    const tree = decodeTree(good.subarray(20), 1 << 22);
    const leaves = leavesOf(tree);
    const { list, index } = leaves[random.below(leaves.length)] as Leaf;
    list[index] = extremes[random.below(extremes.length)];
    const payload = encodeTree(tree);
    const bytes = Uint8Array.from([...good.subarray(0, 20), ...payload]);
    const view = new DataView(bytes.buffer);
    view.setUint32(12, payload.length, true);
    view.setUint32(16, hashes.h32Raw(payload), true);
    try {
      destination.restoreState(bytes);
    } catch (error) {
      assert.ok(error instanceof OperationError && error.code === "machine-state-invalid", String(error));
    }
  }
});

interface Leaf {
  readonly list: StateTree[];
  readonly index: number;
}

/** The places of all numbers and flags in a tree. */
function leavesOf(tree: StateTree): Leaf[] {
  if (!Array.isArray(tree)) return [];
  const list = tree as StateTree[];
  return list.flatMap((value, index) =>
    typeof value === "number" || typeof value === "boolean" ? [{ list, index }] : leavesOf(value),
  );
}

test("a device that throws stops the machine, whose owner is told", async () => {
  const failures: unknown[] = [];
  // Selects the slot's configuration space, which asks the function.
  const selectSlot = `${setSegments} 66 b8 00 28 00 80 ba f8 0c 66 ef eb fe`;
  const machine = await PcMachine.create(emulator, {
    memoryBytes,
    bios: toyBios(selectSlot),
    onFailure: (error) => failures.push(error),
  });
  machines.push(machine);
  const broken = new Error("a bug in the device");
  machine.attach({
    bars: [],
    readConfiguration: () => {
      throw broken;
    },
    writeConfiguration: () => undefined,
    readBar: () => 0,
    writeBar: () => undefined,
    barAddress: () => -1,
    onBarsChanged: () => undefined,
  });
  await machine.resume();
  while (failures.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(failures, [broken]);
  assert.ok(machine.isPaused);
});
