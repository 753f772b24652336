// What the guest's driver and application did, in words: from where their programs were and where they are.
import { RXD_STAT_DD, RXD_STAT_EOP } from "../nic/descriptors.ts";
import type { ModelState, Program, ReceiveQueue, SocketBuffer } from "../machine/model/state.ts";
import type { Layout } from "../machine/model/layout.ts";
import { addressInWords } from "./words.ts";

export class GuestWords {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** What one step of the driver came to. */
  driver(before: ModelState, after: ModelState): string {
    if (after.panic !== null) return `dies: ${after.panic}`;
    if (after.counters.interrupts !== before.counters.interrupts) return this.#interrupt(before, after);
    const { program } = before.driver;
    switch (program.at) {
      case "idle":
        return this.#chosen(after.driver.program);
      case "clean-transmit":
        return this.#cleaned(before, after);
      case "look":
      case "look-after-write":
        return this.#looked(program, before, after.driver.program);
      case "read-descriptor":
        return `reads the rest of ${this.#next(program.queue, before)}: ${statusInWords(after.driver.program)}`;
      case "read-buffer":
        return `reads the first word of the buffer of ${this.#next(program.queue, before)}${wordOf(after.driver.program)}`;
      case "write-buffer":
        return `writes that word back (${hex(program.word)}): the dummy write`;
      case "copy-descriptor":
        return `copies ${this.#next(program.queue, before)} to memory of its own`;
      case "take-buffer":
        return this.#took(program.queue, program.bytes, before, after);
      case "refill":
        return this.#refilled(program.queue, before, after);
      case "end-poll":
        return this.#polled(program.queue, after);
      case "off":
      case "disable-queues":
      case "turn-rings":
      case "reset":
      case "free-rings":
      case "reopen-queue":
      case "open-queue":
      case "fill-ring":
      case "enable-interrupts":
        return `takes its rings down and up again: ${program.at.replace("-", " ")}`;
      default:
        return program satisfies never;
    }
  }

  #queue(queue: number): string {
    return this.#layout.queuePairs > 1 ? ` of queue ${queue}` : "";
  }

  #ring(queue: number, { driver }: ModelState): ReceiveQueue | undefined {
    return driver.receive[queue];
  }

  #next(queue: number, state: ModelState): string {
    return `descriptor ${this.#ring(queue, state)?.nextToClean ?? 0}${this.#queue(queue)}`;
  }

  #interrupt(before: ModelState, after: ModelState): string {
    const taken = before.pendingVectors & ~after.pendingVectors;
    const vector = 31 - Math.clz32(taken);
    if (vector >= this.#layout.queuePairs) return "takes the mailbox interrupt";
    const isScheduled = after.driver.scheduled !== before.driver.scheduled;
    return `takes interrupt ${vector}, ${isScheduled ? "and a poll is due" : "while its poll is due or under way"}`;
  }

  #chosen(next: Program): string {
    if (next.at === "clean-transmit") return `begins a poll${this.#queue(next.queue)}`;
    return next.at === "disable-queues" ? "begins to take its rings down" : "runs its service task";
  }

  #cleaned({ counters: before }: ModelState, { counters: after }: ModelState): string {
    const completed = after.completed - before.completed;
    return completed > 0 ? `finds ${completed} of its frames sent` : "finds no frame newly sent";
  }

  #looked(program: Program, before: ModelState, next: Program): string {
    const queue = "queue" in program ? program.queue : 0;
    const which = this.#next(queue, before);
    if (next.at === "refill") return `has ${next.left} free slots${this.#queue(queue)}: it will refill them`;
    if (next.at === "read-descriptor") return `looks at ${which}: its length is ${next.bytes}, it is done`;
    if (next.at === "read-buffer") return `turns to ${which}, at whose buffer it writes first`;
    if (next.at === "take-buffer") return `looks at its copy of ${which}: its length is ${next.bytes}, it is done`;
    if (next.at === "end-poll" && !next.isDone) return "has used up its budget";
    return `looks at ${which}: its length is 0, it is not done`;
  }

  #took(queue: number, bytes: number, before: ModelState, after: ModelState): string {
    const what = `takes ${bytes} bytes from the buffer of ${this.#next(queue, before)}`;
    if (after.driver.program.at === "end-poll") return `has no memory for ${this.#next(queue, before)}`;
    if (after.counters.droppedBySocket > before.counters.droppedBySocket)
      return `${what}; the socket is full, it drops`;
    const frame = after.socket.length > before.socket.length ? after.socket.at(-1) : undefined;
    if (frame !== undefined) return `${what}; a frame of ${frameBytes(frame)} bytes goes to the socket`;
    return after.counters.errors > before.counters.errors
      ? `${what}; an error bit, it drops`
      : `${what}; more is to come`;
  }

  #refilled(queue: number, before: ModelState, after: ModelState): string {
    const ring = this.#ring(queue, after);
    const slot = this.#ring(queue, before)?.nextToUse ?? 0;
    if (after.driver.program.at === "refill") {
      const address = (ring?.pages[slot] ?? 0) * this.#layout.pages.sizeBytes + (ring?.offsets[slot] ?? 0);
      return `posts descriptor ${slot}${this.#queue(queue)} with the buffer at ${addressInWords(address)}`;
    }
    return `publishes the tail${this.#queue(queue)}: ${ring?.nextToUse ?? 0}`;
  }

  #polled(queue: number, after: ModelState): string {
    const isDueAgain = ((after.driver.scheduled >>> queue) & 1) !== 0;
    return isDueAgain ? "ends its poll, and another is due" : `ends its poll and lets interrupt ${queue} through again`;
  }

  /** What one step of the application came to. */
  application(before: ModelState, after: ModelState): string {
    const { counters: old } = before;
    const { counters } = after;
    if (after.panic !== null) return `dies: ${after.panic}`;
    if (after.socket.length < before.socket.length) {
      if (counters.corrupt > old.corrupt) return "reads a frame from its socket, and it is damaged";
      if (counters.repeated > old.repeated) return "reads a frame from its socket, and has read it before";
      return "reads a frame from its socket, and every byte of it is right";
    }
    const { program } = after.application;
    if (program.at === "post") return "makes a frame to be sent";
    if (program.at === "ring") return "writes the transmit descriptors of its frame";
    if (before.application.program.at === "ring") return "publishes the transmit tail";
    return after.application.writes > before.application.writes
      ? "writes a word of its memory"
      : "looks, and does nothing";
  }
}

const hex = (word: number): string => `0x${(word >>> 0).toString(16).padStart(8, "0")}`;

const wordOf = (next: Program): string => (next.at === "write-buffer" ? `: ${hex(next.word)}` : "");

const frameBytes = ({ headBytes, fragments }: SocketBuffer): number =>
  fragments.reduce((sum, { bytes }) => sum + bytes, headBytes);

function statusInWords(next: Program): string {
  if (!("status" in next)) return "its status";
  const bits = [
    ...((next.status & RXD_STAT_DD) !== 0 ? ["DD"] : []),
    ...((next.status & RXD_STAT_EOP) !== 0 ? ["EOP"] : []),
  ];
  return bits.length === 0 ? "no status bit" : bits.join(" ");
}
