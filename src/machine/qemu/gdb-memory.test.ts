import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { GdbMemory } from "./gdb-memory.ts";
import { readPackets, writePacket } from "./gdb-packets.ts";

/** Plays QEMU's gdb server over 64 KiB of memory; `mangle` may spoil what it says. */
async function fakeServer(t: TestContext, mangle: (answer: string) => string = writePacket) {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-gdb-"));
  const socketPath = path.join(directory, "g");
  const bytes = new Uint8Array(65_536);
  const packets: string[] = [];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {}).setEncoding("latin1");
    socket.on("data", (text: string) => {
      for (const packet of readPackets(text).packets) {
        packets.push(packet ?? "");
        socket.write(`+${mangle(answer(bytes, packet ?? ""))}`);
      }
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(socketPath, resolve);
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { socketPath, bytes, packets };
}

function answer(bytes: Uint8Array, packet: string): string {
  const write = /^M([0-9a-f]+),([0-9a-f]+):([0-9a-f]*)$/.exec(packet);
  if (write !== null) {
    bytes.set(Uint8Array.fromHex(write[3] ?? ""), Number.parseInt(write[1] ?? "", 16));
    return "OK";
  }
  const read = /^m([0-9a-f]+),([0-9a-f]+)$/.exec(packet);
  if (read === null) return packet.startsWith("Qqemu.PhyMemMode:") ? "OK" : "";
  const from = Number.parseInt(read[1] ?? "", 16);
  return bytes.subarray(from, from + Number.parseInt(read[2] ?? "", 16)).toHex();
}

test("what is written is read back, in physical mode, and addresses are virtual again on leaving", async (t) => {
  const { socketPath, bytes, packets } = await fakeServer(t);
  const memory = await GdbMemory.connect(socketPath);
  const [, , read] = await Promise.all([
    memory.write(0x1234, Uint8Array.of(1, 2, 3, 0xfe)),
    memory.write(0x1236, Uint8Array.of(9)),
    memory.read(0x1233, 6),
  ]);
  assert.deepEqual(read, Uint8Array.of(0, 1, 2, 9, 0xfe, 0));
  assert.equal(bytes[0x1237], 0xfe);
  await memory.leave();
  assert.equal(packets[0], "Qqemu.PhyMemMode:1");
  assert.equal(packets.at(-1), "Qqemu.PhyMemMode:0");
  await assert.rejects(memory.read(0, 4), { code: "gdb-failed" });
});

test("nothing that detaches, continues or kills is ever sent, and hanging up sends nothing", async (t) => {
  const { socketPath, packets } = await fakeServer(t);
  const memory = await GdbMemory.connect(socketPath);
  await memory.write(0, Uint8Array.of(1));
  memory.hangUp();
  await new Promise(setImmediate);
  assert.equal(packets.length, 2);
  assert.ok(packets.every((packet) => /^[QMm]/.test(packet)));
});

for (const [what, mangle] of Object.entries({
  "an error": () => writePacket("E14"),
  "a wrong sum": (text: string) => writePacket(text).slice(0, -2) + "zz",
  "more answers than questions": (text: string) => writePacket(text) + writePacket(text),
  "an answer without end": () => `$${"0".repeat(20_000)}`,
})) {
  test(`${what} is gdb-failed`, async (t) => {
    const { socketPath } = await fakeServer(t, mangle);
    await assert.rejects(
      (async () => {
        const memory = await GdbMemory.connect(socketPath);
        await memory.read(0, 4);
        await memory.read(0, 4);
      })(),
      { code: "gdb-failed" },
    );
  });
}

test("a socket where nobody listens is gdb-failed", async () => {
  await assert.rejects(GdbMemory.connect("/nonexistent/gdb"), { code: "gdb-failed" });
});

test("packets come out as they went in, however the stream is cut", () => {
  const text = fc.string({ unit: fc.constantFrom("0", "a", "f", "O", "K", "E", ":", ",", ";") });
  fc.assert(
    fc.property(fc.array(text, { maxLength: 5 }), fc.nat(), (texts, cut) => {
      const stream = texts.map((one) => `+${writePacket(one)}`).join("");
      const at = cut % (stream.length + 1);
      const first = readPackets(stream.slice(0, at));
      const second = readPackets(first.rest + stream.slice(at));
      assert.deepEqual([...first.packets, ...second.packets], texts);
    }),
  );
});

test("any text gives packets and a rest, never an exception", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("$", "#", "+", "0", "a") }), (text) => {
      const { packets, rest } = readPackets(text);
      assert.ok(rest === "" || rest.startsWith("$"));
      assert.ok(packets.length <= text.length / 4);
    }),
  );
});
