// The guest's application: reads frames from the socket and checks every byte, writes to its memory, sends frames.
import type { CpuMemory } from "./cpu-memory.ts";
import type { GuestDriver } from "./driver.ts";
import { composeFrame, pseudoHeaderSum, readFrame, UDP_CHECKSUM_OFFSET } from "./frames.ts";
import type { Layout } from "./layout.ts";
import type { PageAllocator } from "./page-allocator.ts";
import { listCorrupt, type ModelState, type SocketBuffer } from "./state.ts";

/** Where frames from the guest go to: the network's other end. */
export const peerMac = Uint8Array.of(2, 0, 0, 0, 0, 0x22);

export interface ApplicationParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly memory: CpuMemory;
  readonly pages: PageAllocator;
  readonly driver: GuestDriver;
}

/** No frame on the wire is longer. What a driver gone wrong takes for one may be. */
const FRAME_BYTES_MAX = 16_384;

type Job = "read" | "write" | "send";
/** Reading is what there is most of. */
const jobs: readonly Job[] = ["read", "write", "read", "send"];

export class Application {
  readonly #parts: ApplicationParts;
  /** The frame being read, whatever its length. */
  readonly #gathered = new ArrayBuffer(FRAME_BYTES_MAX);
  readonly #gatheredBy = new Map<number, Uint8Array>();

  constructor(parts: ApplicationParts) {
    this.#parts = parts;
  }

  /** Goes on with a frame it is sending, or does its next job. Always does something. */
  step(): true {
    const { application } = this.#parts.state();
    const { program } = application;
    if (program.at === "post") this.#post(program.page);
    else if (program.at === "ring") this.#ring(program.queue, program.opened);
    else this.#doJob(jobs[application.turn++ % jobs.length] ?? "read");
    return true;
  }

  #doJob(job: Job): void {
    if (job === "read") this.read();
    else if (job === "write") this.#write();
    else this.#compose();
  }

  /** Takes the oldest frame, checks it and frees its pages. False when there is none. */
  read(): boolean {
    const { state, layout, driver } = this.#parts;
    const { socket, counters } = state();
    const held = socket.shift();
    if (held === undefined) return false;
    const bytes = this.#gather(held);
    const frame = this.#isMine(bytes) ? readFrame(bytes, layout.seed) : undefined;
    if (frame === undefined) listCorrupt(counters, counters.verified + counters.corrupt);
    else this.#account(frame.flow, frame.sequence);
    driver.receive.freeFrame(held);
    return true;
  }

  /** eth_type_trans: what is not for this station goes no further; the device would not have taken it in like that. */
  #isMine(frame: Uint8Array): boolean {
    const { mac } = this.#parts.state().driver.vf;
    for (let i = 0; i < mac.length; i++) if (frame[i] !== mac[i]) return false;
    return true;
  }

  /** All bytes of a frame, good until the next one is gathered. */
  #gather({ headPage, headBytes, fragments }: SocketBuffer): Uint8Array {
    const { memory, pages } = this.#parts;
    let length = headBytes;
    for (const { bytes } of fragments) length += bytes;
    const frame = this.#roomFor(length);
    memory.readInto(frame, 0, pages.address(headPage), headBytes);
    let at = headBytes;
    for (const { address, bytes } of fragments) {
      memory.readInto(frame, at, address, bytes);
      at += bytes;
    }
    return frame;
  }

  /** One view for each length there has been: a new one for every frame is work for the garbage collector. */
  #roomFor(length: number): Uint8Array {
    const known = this.#gatheredBy.get(length);
    if (known !== undefined) return known;
    if (length > FRAME_BYTES_MAX) return new Uint8Array(length);
    const room = new Uint8Array(this.#gathered, 0, length);
    this.#gatheredBy.set(length, room);
    return room;
  }

  #account(flow: number, sequence: number): void {
    const { application, counters } = this.#parts.state();
    const newest = application.newest[flow] ?? -1;
    counters.verified++;
    if (sequence <= newest) {
      counters.repeated++;
      return;
    }
    counters.missing += sequence - newest - 1;
    application.newest[flow] = sequence;
  }

  /** Writes a word somewhere in the application's pages; where and what follow from how many it has written. */
  #write(): void {
    const { state, layout, memory } = this.#parts;
    const { application } = state();
    const words = layout.applicationBytes / 4;
    if (words === 0) return;
    const value = Math.imul(++application.writes, 0x9e37_79b1) >>> 0;
    memory.setWord(layout.applicationStart + 4 * (value % words), value);
  }

  /** Makes a frame in a page of its own, with the checksum as the device wants it. */
  #compose(): void {
    const { state, layout, memory, pages } = this.#parts;
    const { application, driver } = state();
    const queue = application.sending % layout.queuePairs;
    if (!driver.isUp || !this.#parts.driver.transmit.hasRoom(queue)) return;
    const page = pages.allocate();
    if (page === undefined) return;
    const frame = new Uint8Array(layout.sentFrameBytes);
    const stations = { destination: peerMac, source: Uint8Array.from(driver.vf.mac) };
    composeFrame(frame, stations, { flow: queue, sequence: application.sending }, layout.seed);
    frame.fill(0, IP_CHECKSUM_OFFSET, IP_CHECKSUM_OFFSET + 2);
    const sum = pseudoHeaderSum(frame);
    frame[UDP_CHECKSUM_OFFSET] = sum >>> 8;
    frame[UDP_CHECKSUM_OFFSET + 1] = sum;
    memory.setBytes(pages.address(page), frame);
    application.sending = (application.sending + 1) >>> 0;
    application.program = { at: "post", page };
  }

  /** A driver that was taken down meanwhile loses the frame. */
  #post(page: number): void {
    const { state, layout, pages } = this.#parts;
    const { application, driver, counters } = state();
    const queue = (application.sending - 1) % layout.queuePairs;
    if (!driver.isUp || queue < 0 || !this.#parts.driver.transmit.hasRoom(queue)) {
      pages.release(page);
      application.program = { at: "next" };
      return;
    }
    this.#parts.driver.transmit.post(queue, page, layout.sentFrameBytes);
    counters.sent++;
    application.program = { at: "ring", queue, opened: counters.opened };
  }

  /** Of a ring that was dropped meanwhile there is nothing to publish. */
  #ring(queue: number, opened: number): void {
    const { application, driver, counters } = this.#parts.state();
    if (driver.isUp && counters.opened === opened) this.#parts.driver.transmit.publish(queue);
    application.program = { at: "next" };
  }
}

const IP_CHECKSUM_OFFSET = 24;
