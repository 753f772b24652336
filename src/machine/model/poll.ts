// The driver's poll of one queue pair: ixgbevf_poll, ixgbevf_clean_tx_irq, ixgbevf_clean_rx_irq, and what a driver adds
// that dirties its buffers for a migration.
import { VTEIMS } from "../../nic/registers.ts";
import type { RegisterAccess } from "../../nic/guest-driver.ts";
import { dirtiesDoneBuffers, type Cooperation } from "./cooperation.ts";
import type { Layout } from "./layout.ts";
import type { ReceiveDriver } from "./receive-driver.ts";
import type { ModelState, Program, ProgramAt, SocketBuffer } from "./state.ts";
import type { TransmitDriver } from "./transmit-driver.ts";

export interface PollParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly registers: RegisterAccess;
  readonly receive: ReceiveDriver;
  readonly transmit: TransmitDriver;
}

type PollProgram = ProgramAt<
  | "clean-transmit"
  | "look"
  | "read-descriptor"
  | "read-buffer"
  | "write-buffer"
  | "look-after-write"
  | "copy-descriptor"
  | "take-buffer"
  | "refill"
  | "end-poll"
>;

type Checked = ProgramAt<"read-descriptor" | "read-buffer" | "write-buffer">;

/** The program is between seeing a descriptor done and dirtying its buffer. */
export function isBeforeDummyWrite(program: Program, cooperation: Cooperation): program is Checked {
  if (!dirtiesDoneBuffers(cooperation)) return false;
  return program.at === "read-descriptor" || program.at === "read-buffer" || program.at === "write-buffer";
}

/*
 * The way of one descriptor, stock: look, read-descriptor, take-buffer.
 *   dummy-write-before: read-buffer, write-buffer, look-after-write, read-descriptor, take-buffer
 *   dummy-write-after:  look, read-descriptor, read-buffer, write-buffer, take-buffer
 *   copy-descriptors:   look, read-descriptor, read-buffer, write-buffer, copy-descriptor, look (at the copy), take-buffer
 */
export class Poll {
  readonly #parts: PollParts;

  constructor(parts: PollParts) {
    this.#parts = parts;
  }

  step(program: PollProgram): Program {
    const { receive } = this.#parts;
    switch (program.at) {
      case "clean-transmit":
        return this.#cleanTransmit(program);
      case "look":
        return this.#look(program);
      case "read-descriptor":
        return this.#checked(program, receive.status(program.queue));
      case "read-buffer":
        return { ...program, at: "write-buffer", word: receive.readBuffer(program.queue) };
      case "write-buffer":
        receive.writeBuffer(program.queue, program.word);
        return this.#dirtied(program);
      case "look-after-write":
        return this.#lookAtDescriptor(program);
      case "copy-descriptor": {
        const { queue, budget, unused, bytes, status } = program;
        receive.copyDescriptor(queue, bytes, status);
        return { at: "look", queue, budget, unused };
      }
      case "take-buffer":
        return this.#takeBuffer(program);
      case "refill":
        return this.#refill(program);
      case "end-poll":
        return this.#endPoll(program);
      default:
        return program satisfies never;
    }
  }

  #cleanTransmit(program: ProgramAt<"clean-transmit">): Program {
    const { layout, receive, transmit } = this.#parts;
    const { queue } = program;
    if (transmit.clean(queue)) return program;
    return { at: "look", queue, budget: layout.pollBudget, unused: receive.unused(queue) };
  }

  #look(program: ProgramAt<"look">): Program {
    const { layout, receive } = this.#parts;
    const { queue, budget, unused } = program;
    if (budget === 0) return { at: "end-poll", queue, isDone: false };
    if (unused >= layout.refillBatch) return { at: "refill", queue, budget, left: unused, posted: 0 };
    if (layout.cooperation === "dummy-write-before" && receive.hasBuffer(queue)) {
      return { at: "read-buffer", queue, budget, unused, bytes: 0, status: 0 };
    }
    const copied = layout.cooperation === "copy-descriptors" ? receive.copied(queue) : undefined;
    if (copied !== undefined) return { at: "take-buffer", queue, budget, unused, ...copied };
    return this.#lookAtDescriptor(program);
  }

  #lookAtDescriptor({ queue, budget, unused }: ProgramAt<"look" | "look-after-write">): Program {
    const bytes = this.#parts.receive.look(queue);
    if (bytes === 0) return { at: "end-poll", queue, isDone: true };
    return { at: "read-descriptor", queue, budget, unused, bytes };
  }

  #checked({ queue, budget, unused, bytes }: ProgramAt<"read-descriptor">, status: number): Program {
    const at = dirtiesDoneBuffers(this.#parts.layout.cooperation) ? "read-buffer" : "take-buffer";
    return { at, queue, budget, unused, bytes, status };
  }

  #dirtied({ queue, budget, unused, bytes, status }: ProgramAt<"write-buffer">): Program {
    if (bytes === 0) return { at: "look-after-write", queue, budget, unused };
    const copies = this.#parts.layout.cooperation === "copy-descriptors";
    return { at: copies ? "copy-descriptor" : "take-buffer", queue, budget, unused, bytes, status };
  }

  #takeBuffer({ queue, budget, unused, bytes, status }: ProgramAt<"take-buffer">): Program {
    const { frame, isTaken } = this.#parts.receive.take(queue, bytes, status);
    if (!isTaken) return { at: "end-poll", queue, isDone: true };
    if (frame === undefined) return { at: "look", queue, budget, unused: unused + 1 };
    this.#deliver(frame);
    return { at: "look", queue, budget: budget - 1, unused: unused + 1 };
  }

  #deliver(frame: SocketBuffer): void {
    const { socket, counters } = this.#parts.state();
    if (socket.length >= this.#parts.layout.socketFrames) {
      counters.droppedBySocket++;
      this.#parts.receive.freeFrame(frame);
      return;
    }
    counters.received++;
    socket.push(frame);
  }

  #refill({ queue, budget, left, posted }: ProgramAt<"refill">): Program {
    const { receive } = this.#parts;
    if (left > 0 && receive.post(queue)) return { at: "refill", queue, budget, left: left - 1, posted: posted + 1 };
    if (posted > 0) receive.publish(queue);
    // cleaned_count starts again at 0, whatever could not be posted.
    return { at: "look", queue, budget, unused: 0 };
  }

  /** napi_complete_done, and ixgbevf_irq_enable_queues unless there is more to do. */
  #endPoll({ queue, isDone }: ProgramAt<"end-poll">): Program {
    const { driver } = this.#parts.state();
    const bit = 1 << queue;
    if (!isDone || (driver.missed & bit) !== 0) driver.scheduled |= bit;
    else this.#parts.registers.write(VTEIMS, bit);
    driver.missed &= ~bit;
    return { at: "idle" };
  }
}
