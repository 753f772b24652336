// The wire's throughput: pages through encoder and decoder, against plain copies, and over loopback TCP against TCP alone.
//
//   node bench/wire.ts [--seconds 1]
//
// All figures come from one run on one machine, so their ratios mean something where the absolute numbers do not. The
// receiver of the TCP figures is another thread, as it is another process in earnest.
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { Worker, isMainThread, parentPort } from "node:worker_threads";
import { SeededRandom } from "../src/base/random.ts";
import { connectTcp, listenTcp } from "../src/host/tcp-transport.ts";
import { checksum } from "../src/migration/wire/checksum.ts";
import { Conversation } from "../src/migration/wire/conversation.ts";
import { FrameDecoder } from "../src/migration/wire/decode.ts";
import { FrameEncoder, PagesEncoder } from "../src/migration/wire/encode.ts";
import { answerHello, helloFrom } from "../src/migration/wire/negotiate.ts";
import type { Offer, Pages } from "../src/migration/wire/protocol.ts";
import { migrationIdOf } from "../src/migration/wire/state-payloads.ts";

const pageBytes = 4096;
const pageCount = 16_384;
const pagesPerFrame = 256;
const memoryBytes = pageCount * pageBytes;
const chunkBytes = 64 * 1024;
const loopback = { host: "127.0.0.1", port: 0 };

const offer: Offer = {
  kind: "offer",
  migrationId: migrationIdOf(new Uint8Array(16)),
  machine: "model",
  memoryBytes,
  pageBytes,
  strategy: "rings-first",
  vfModel: "intel-82599-vf",
  vfStateVersion: 1,
  machineStateVersion: 1,
  queuePairs: 1,
  mac: "02:00:00:00:00:01",
};

function storePages(message: Pages, memory: Uint8Array): void {
  for (let i = 0; i < message.pages.length; i++) {
    const at = i * message.pageBytes;
    memory.set(message.bytes.subarray(at, at + message.pageBytes), (message.pages[i] as number) * message.pageBytes);
  }
}

/** Runs `pass`, which moves `bytes`, for the given time and prints MB/s. */
function measure(name: string, bytes: number, seconds: number, pass: () => void): number {
  pass();
  const startMs = performance.now();
  let passes = 0;
  while (performance.now() - startMs < seconds * 1000) {
    pass();
    passes++;
  }
  return report(name, (passes * bytes) / (performance.now() - startMs) / 1000);
}

function report(name: string, megabytesPerSecond: number): number {
  console.log(`${name.padEnd(52)} ${megabytesPerSecond.toFixed(0).padStart(8)} MB/s`);
  return megabytesPerSecond;
}

function inMemory(memory: Uint8Array, seconds: number): void {
  const target = new Uint8Array(memoryBytes);
  const frameBytes = pagesPerFrame * pageBytes;
  const scratch = new Uint8Array(frameBytes);
  measure("copy, memory to memory", memoryBytes, seconds, () => target.set(memory));
  measure("copy, frame by frame through one buffer", memoryBytes, seconds, () => {
    for (let at = 0; at < memoryBytes; at += frameBytes) {
      scratch.set(memory.subarray(at, at + frameBytes));
      target.set(scratch, at);
    }
  });
  measure("checksum", memoryBytes, seconds, () => {
    for (let at = 0; at < memoryBytes; at += frameBytes) checksum(memory.subarray(at, at + frameBytes));
  });
  const pages = new PagesEncoder(pageBytes);
  const encodeFrame = (encoder: FrameEncoder, first: number): Uint8Array => {
    pages.begin(1);
    for (let page = first; page < first + pagesPerFrame; page++) pages.add(page, memory, page * pageBytes);
    return encoder.encodePages(pages);
  };
  measure("encode", memoryBytes, seconds, () => {
    const encoder = new FrameEncoder();
    for (let page = 0; page < pageCount; page += pagesPerFrame) encodeFrame(encoder, page);
  });
  const both = (bytesMax: number) => (): void => {
    const encoder = new FrameEncoder();
    const decoder = new FrameDecoder({
      admit: () => {},
      onMessage: (message) => {
        if (message.kind === "pages") storePages(message, target);
      },
    });
    for (let page = 0; page < pageCount; page += pagesPerFrame) {
      const frame = encodeFrame(encoder, page);
      for (let at = 0; at < frame.length; at += bytesMax) decoder.push(frame.subarray(at, at + bytesMax));
    }
  };
  measure("encode, decode and store, each frame in one chunk", memoryBytes, seconds, both(Number.POSITIVE_INFINITY));
  measure("encode, decode and store, chunks of 64 KiB", memoryBytes, seconds, both(chunkBytes));
}

/** The receiving thread: one port that counts bytes, one that talks the protocol. */
async function receive(): Promise<void> {
  const raw = createServer((socket) => {
    let received = 0;
    socket.on("data", (chunk: Uint8Array) => {
      received += chunk.length;
      if (received % memoryBytes === 0) socket.write("!");
    });
  });
  raw.listen(loopback);
  await once(raw, "listening");
  const memory = new Uint8Array(memoryBytes);
  const spoken = await listenTcp(loopback, (transport) => {
    const conversation: Conversation = new Conversation({
      role: "destination",
      transport,
      onMessage: (message) => {
        if (message.kind === "hello") void conversation.send(answerHello(message, "bench"));
        if (message.kind === "offer") void conversation.send({ kind: "accept" });
        if (message.kind === "pages") storePages(message, memory);
        if (message.kind === "end-of-state") void conversation.send({ kind: "ready", partsMs: {} });
      },
      onEnd: () => {},
    });
  });
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is the browser's, not a thread's
  parentPort?.postMessage({ raw: (raw.address() as AddressInfo).port, spoken: spoken.address.port });
}

async function rawTcp(memory: Uint8Array, port: number, seconds: number): Promise<void> {
  const socket = connect({ host: loopback.host, port, noDelay: true });
  await once(socket, "connect");
  const frameBytes = pagesPerFrame * pageBytes;
  const startMs = performance.now();
  let passes = 0;
  while (performance.now() - startMs < seconds * 1000) {
    for (let at = 0; at < memoryBytes; at += frameBytes) {
      if (!socket.write(memory.subarray(at, at + frameBytes)) && socket.writableNeedDrain) await once(socket, "drain");
    }
    await once(socket, "data");
    passes++;
  }
  report("TCP alone, writes of 1 MiB", (passes * memoryBytes) / (performance.now() - startMs) / 1000);
  socket.destroy();
}

async function spokenTcp(memory: Uint8Array, port: number, seconds: number): Promise<void> {
  const transport = await connectTcp({ host: loopback.host, port });
  const source = new Conversation({ role: "source", transport, onEnd: () => {} });
  await source.send(helloFrom("bench"));
  await source.expect("hello-ack");
  await source.send(offer);
  await source.expect("accept");
  const startMs = performance.now();
  let round = 1;
  for (; performance.now() - startMs < seconds * 1000; round++) {
    for (let first = 0; first < pageCount; first += pagesPerFrame) {
      const frame = source.pagesEncoder({ round, pageBytes });
      for (let page = first; page < first + pagesPerFrame; page++) frame.add(page, memory, page * pageBytes);
      await source.sendPages(frame);
    }
    await source.send({ kind: "round-end", round, pages: pageCount, zeroPages: 0, dirtyAfter: 0 });
  }
  await source.send({ kind: "machine-state", totalBytes: 1, offset: 0, bytes: new Uint8Array(1) });
  await source.send({ kind: "end-of-state", machineStateBytes: 1, vfStateBytes: 0 });
  await source.expect("ready");
  const elapsedMs = performance.now() - startMs;
  report("protocol over TCP, read from and stored to memory", ((round - 1) * memoryBytes) / elapsedMs / 1000);
  source.close();
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { seconds: { type: "string", default: "1" } } });
  const seconds = Number(values.seconds);
  const memory = new Uint8Array(memoryBytes);
  const random = new SeededRandom(1);
  for (let i = 0; i < memoryBytes; i += 4) memory[i] = random.u32();
  inMemory(memory, seconds);
  const worker = new Worker(new URL(import.meta.url));
  const [ports] = (await once(worker, "message")) as [{ raw: number; spoken: number }];
  await rawTcp(memory, ports.raw, seconds);
  await spokenTcp(memory, ports.spoken, seconds);
  await worker.terminate();
}

await (isMainThread ? main() : receive());
