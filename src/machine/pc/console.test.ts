import assert from "node:assert/strict";
import { test } from "node:test";
import { SerialConsole } from "./console.ts";
import type { V86Emulator } from "./v86-internals.ts";

class FakeEmulator {
  readonly received: number[] = [];
  readonly uart0 = { input: [] as number[] };
  readonly v86 = { cpu: { devices: { uart0: this.uart0 } } };
  readonly bus = { send: (_event: string, value: unknown): number => this.received.push(value as number) };
  writes: (byte: number) => void = () => {};

  add_listener(_event: string, listener: (byte: number) => void): void {
    this.writes = listener;
  }
}

function bench(): { emulator: FakeEmulator; console: SerialConsole; gate: { isOpen: boolean } } {
  const emulator = new FakeEmulator();
  const gate = { isOpen: true };
  const console = new SerialConsole(emulator as unknown as V86Emulator, () => gate.isOpen);
  return { emulator, console, gate };
}

const bytesOf = (text: string): number[] => [...Buffer.from(text)];

test("output is passed on once per flush, with characters of several bytes whole", () => {
  const { emulator, console } = bench();
  const heard: string[] = [];
  const stop = console.onOutput((text) => heard.push(text));
  const bytes = bytesOf("grüße");
  for (const byte of bytes.slice(0, 3)) emulator.writes(byte);
  console.flush();
  console.flush();
  for (const byte of bytes.slice(3)) emulator.writes(byte);
  console.flush();
  stop();
  emulator.writes(0x21);
  console.flush();
  assert.deepEqual(heard, ["gr", "üße"]);
  assert.equal(console.output, "grüße!");
});

test("input is held while the guest may not take it, and delivered in order", () => {
  const { emulator, console, gate } = bench();
  gate.isOpen = false;
  console.send("ab");
  console.send("c");
  assert.deepEqual(emulator.received, []);
  gate.isOpen = true;
  console.deliver();
  console.send("d");
  assert.deepEqual(emulator.received, bytesOf("abcd"));
});

test("input that the guest has not read is part of the state, wherever it waits", () => {
  const { emulator, console, gate } = bench();
  emulator.uart0.input = bytesOf("xy");
  gate.isOpen = false;
  console.send("z");
  const pending = console.pendingInput();
  assert.deepEqual([...pending], bytesOf("xyz"));
  const other = bench();
  other.emulator.writes(0x41);
  other.console.flush();
  other.console.restoreInput(pending);
  assert.deepEqual(other.emulator.uart0.input, bytesOf("xyz"));
  assert.equal(other.console.output, "", "what another guest wrote is not this one's");
  other.console.deliver();
  assert.deepEqual(other.emulator.received, []);
});

test("of a guest that talks without end the latest output is kept", () => {
  const { emulator, console } = bench();
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 1 << 20; i++) emulator.writes(0x61 + round);
    console.flush();
  }
  assert.ok(console.output.length <= 4 << 20);
  assert.ok(console.output.endsWith("e"));
});
