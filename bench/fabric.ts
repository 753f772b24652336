// The fabric between processes: frames per second from one host to another, and the latency it adds to a frame.
//
//   bin/underway-node bench/fabric.ts [--seconds 2]
//
// Three processes: this one sends, the fabric switches, a child receives or sends back. Latency is half a round trip
// through the fabric less half of one over a cable that joins the two processes directly.
import { fork, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { hostClock } from "../src/host/clock.ts";
import { plugCable } from "../src/host/fabric-client.ts";
import { startFabric } from "../src/host/fabric.ts";
import { cablePath } from "../src/host/fabric-server.ts";
import { StreamCable } from "../src/host/stream-cable.ts";
import { writeEthernetHeader } from "../src/network/ethernet.ts";
import { BROADCAST_MAC, type MacAddress } from "../src/network/mac.ts";

const near = 0x0200_0000_0001 as MacAddress;
const far = 0x0200_0000_0002 as MacAddress;
const { values } = parseArgs({
  options: { seconds: { type: "string", default: "2" }, child: { type: "string" } },
});
const forMs = Number(values.seconds) * 1000;

function frame(source: MacAddress, destination: MacAddress, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  writeEthernetHeader(bytes, { source, destination, etherType: 0x88b5 });
  return bytes;
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

/** The far host: sends pings back, counts the rest, and tells its parent how many came. */
async function beFarHost(socketPath: string): Promise<void> {
  let received = 0;
  const answer = (bytes: Uint8Array, send: (reply: Uint8Array) => void): void => {
    received++;
    if (bytes[14] !== 1) return;
    writeEthernetHeader(bytes, { source: far, destination: near, etherType: 0x88b5 });
    send(bytes);
  };
  const cable = await plugCable(socketPath);
  cable.onFrame = (bytes) => answer(bytes, (reply) => cable.frame(reply));
  cable.frame(frame(far, BROADCAST_MAC, 60));
  const server = createServer((socket: Socket) => {
    const direct = new StreamCable(socket, {
      onFrame: (bytes) => answer(bytes, (reply) => direct.send(reply)),
      onClosed: () => {},
    });
  });
  server.listen(`${socketPath}.direct`, () => process.send?.("ready"));
  process.on("message", () => process.send?.(received));
  process.on("disconnect", () => process.exit());
}

const ask = (child: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    child.once("message", (count) => resolve(Number(count)));
    child.send("count");
  });

/** Half of the median round trip in microseconds, one frame under way at a time. */
async function halfRoundTripUs(
  send: (bytes: Uint8Array) => void,
  onAnswer: (listener: () => void) => void,
): Promise<number> {
  const ping = frame(near, far, 114);
  ping[14] = 1;
  const times: number[] = [];
  let answered = (): void => {};
  onAnswer(() => answered());
  const endMs = hostClock.nowMs() + forMs;
  while (hostClock.nowMs() < endMs) {
    const startMs = hostClock.nowMs();
    await new Promise<void>((resolve) => {
      answered = resolve;
      send(ping);
    });
    times.push(hostClock.nowMs() - startMs);
  }
  return ((times.toSorted((a, b) => a - b)[times.length >>> 1] ?? 0) / 2) * 1000;
}

async function measure(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), "underway-bench-"));
  const fabric = await startFabric({ directory, cables: ["near", "far"], seed: 1 });
  const farPath = cablePath(directory, "far");
  const child = fork(fileURLToPath(import.meta.url), ["--child", farPath], { execArgv: process.execArgv });
  await new Promise((resolve) => void child.once("message", resolve));
  const cable = await plugCable(cablePath(directory, "near"));
  cable.frame(frame(near, BROADCAST_MAC, 60));
  await pause(100);

  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  for (const lengthBytes of [60, 1514]) {
    const bytes = frame(near, far, lengthBytes);
    const before = await ask(child);
    const sentBefore = cable.counters.framesOut;
    const startMs = hostClock.nowMs();
    while (hostClock.nowMs() - startMs < forMs) {
      for (let i = 0; i < 64 && cable.counters.queued < 128; i++) cable.frame(bytes);
      await turn();
    }
    const elapsedMs = hostClock.nowMs() - startMs;
    const received = (await ask(child)) - before;
    const sent = cable.counters.framesOut - sentBefore;
    await pause(200);
    const rate = (received / elapsedMs) * 1000;
    const gigabits = (rate * lengthBytes * 8) / 1e9;
    say(`${lengthBytes} bytes: ${Math.round(rate)} frames/s received (${gigabits.toFixed(2)} Gb/s), ${sent} sent`);
  }

  const through = await halfRoundTripUs(
    (bytes) => cable.frame(bytes),
    (listener) => {
      cable.onFrame = listener;
    },
  );
  let onDirect = (): void => {};
  const direct = new StreamCable(connect({ path: `${farPath}.direct` }), {
    onFrame: () => onDirect(),
    onClosed: () => {},
  });
  const straight = await halfRoundTripUs(
    (bytes) => void direct.send(bytes),
    (listener) => {
      onDirect = listener;
    },
  );
  say(`one way: ${through.toFixed(0)} us through the fabric, ${straight.toFixed(0)} us directly`);
  say(`added by the fabric: ${(through - straight).toFixed(0)} us`);
  direct.close();
  cable.close();
  child.disconnect();
  await fabric.close();
  await rm(directory, { recursive: true });
}

await (values.child === undefined ? measure() : beFarHost(values.child));
