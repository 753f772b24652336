import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import { HumanMonitor, parseDump } from "./hmp.ts";
import { QmpClient } from "./qmp.ts";

/** A monitor whose QEMU gives the same answer to every line; the lines are kept. */
async function monitorThatSays(answer: string): Promise<{ monitor: HumanMonitor; lines: string[] }> {
  const [near, far] = duplexPair();
  const lines: string[] = [];
  far.write('{"QMP":{"version":{"qemu":{"major":11,"minor":1,"micro":2}}}}\r\n');
  far.setEncoding("utf8").on("data", (text: string) => {
    for (const line of text.trim().split("\n")) {
      const command = JSON.parse(line) as { id: number; arguments?: { "command-line": string } };
      if (command.arguments !== undefined) lines.push(command.arguments["command-line"]);
      far.write(`${JSON.stringify({ return: command.arguments === undefined ? {} : answer, id: command.id })}\r\n`);
    }
  });
  return { monitor: new HumanMonitor(await QmpClient.over(near, "q")), lines };
}

const refused = { code: "qemu-monitor-refused" };

test("a port is read with its size, and the answer must be about that port and of that size", async () => {
  const { monitor, lines } = await monitorThatSays("portl[0x0cfc] = 0x29c08086\r\n");
  assert.equal(await monitor.readPort(0xcfc, 4), 0x29c0_8086);
  await assert.rejects(monitor.readPort(0xcf8, 4), refused);
  await assert.rejects(monitor.readPort(0xcfc, 2), refused);
  assert.deepEqual(lines, ["i /w 0xcfc", "i /w 0xcf8", "i /h 0xcfc"]);
});

test("a port is written with its size and in hexadecimal; whatever QEMU says to it is a refusal", async () => {
  const silent = await monitorThatSays("");
  await silent.monitor.writePort(0xcf8, 4, 0x8000_0060);
  await silent.monitor.writePort(0xcfe, 1, 7);
  assert.deepEqual(silent.lines, ["o /w 0xcf8 0x80000060", "o /b 0xcfe 0x7"]);
  const { monitor } = await monitorThatSays("unknown command: 'o'\r\n");
  await assert.rejects(monitor.writePort(0xcf8, 4, 0), { ...refused, message: /unknown command: 'o'/ });
});

test("the gdb server's start and end are believed only when QEMU says so", async () => {
  const { monitor, lines } = await monitorThatSays("Waiting for gdb connection on device 'x'\r\n");
  await monitor.startGdbServer("/run/x/gdb");
  assert.deepEqual(lines, ["gdbserver unix:/run/x/gdb,server=on,wait=off"]);
  await assert.rejects(monitor.stopGdbServer(), refused);
  const other = await monitorThatSays("Failed to bind socket to /x: No such file or directory\r\n");
  await assert.rejects(other.monitor.startGdbServer("/x"), { ...refused, message: /No such file/ });
  await assert.rejects(other.monitor.startGdbServer("/x,wait=on"), /cannot carry/);
});

function dump(address: number, words: readonly number[]): string {
  let text = "";
  for (let at = 0; at < words.length; at += 4) {
    const line = words.slice(at, at + 4).map((word) => ` 0x${word.toString(16).padStart(8, "0")}`);
    text += `${(address + 4 * at).toString(16).padStart(8, "0")}:${line.join("")}\r\n`;
  }
  return text;
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

test("a dump of memory is read word for word, and for no other address or length", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.array(u32, { minLength: 1, maxLength: 40 }), (address, words) => {
      fc.pre(address <= Number.MAX_SAFE_INTEGER - 1024);
      const text = dump(address, words);
      assert.deepEqual(parseDump(text, address, words.length), Uint32Array.from(words));
      assert.equal(parseDump(text, address + 16, words.length), undefined);
      assert.equal(parseDump(text, address, words.length + 1), undefined);
      assert.equal(parseDump(text.slice(0, -1), address, words.length), undefined);
    }),
  );
});

test("memory that cannot be read is a refusal in QEMU's words", async () => {
  const { monitor } = await monitorThatSays("ffffffffffff: Cannot access memory\r\n");
  await assert.rejects(monitor.readPhysicalWords(0xffff_ffff_ffff, 3), { ...refused, message: /Cannot access/ });
});
