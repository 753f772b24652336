// Interrupts without eventfds: the device sends MSI-X messages itself, as hardware does, by the table the client keeps.
import { addressFromHalves } from "../../../base/numbers.ts";
import type { DmaRequester } from "./dma-requester.ts";
import { Fields } from "./fields.ts";
import { MSIX_ENTRY_BYTES } from "./msix-location.ts";

const VECTOR_MASKED = 1;
/** How soon a table that held a message back is looked at again. Drivers mask a vector to move it, which is short. */
const LOOK_AGAIN_MS = 10;
/** Where looks are refused, which the guest's IOMMU logs, each is twice as late as the one before, up to this. */
const LOOK_AGAIN_MS_MAX = 10_240;

export interface MessageInterruptsOptions {
  readonly requester: DmaRequester;
  readonly vectors: number;
  /** Address of the MSI-X table as the device would read it; -1 while it has none. */
  readonly tableAddress: () => number;
  /** Calls back once, after that time. */
  readonly after: (delayMs: number, callback: () => void) => void;
}

/** What is done about a vector: nothing; its entry is read; it is pending, and looked at again. */
const Interest = { none: 0, reading: 1, pending: 2 } as const;

/**
 * The client emulates the table that the guest sees, in the device's own BAR, where the device can read it by DMA like
 * any other memory. To raise a vector is to read its entry and, unless it is masked, to write its data to its address.
 * Both come after all DMA that was asked for before, so what an interrupt tells of is in memory before it.
 *
 * A vector that is raised again before its message is sent has one message. A message that a mask holds back, or whose
 * entry could not be read, stays pending until another look finds it free; looks are modest, and `lookAgain` is for
 * whoever knows that something changed.
 *
 * It takes a device that can read its own BAR. Behind an IOMMU that translates, Linux maps no BAR for it: nothing is ever
 * found free, `refused` counts, and the guest has no interrupts (seen with intel-iommu, QEMU 11.1; DMA works there).
 */
export class MessageInterrupts {
  /** Messages written. */
  sent = 0;
  /** Looks at the table that the client refused. */
  refused = 0;
  readonly #options: MessageInterruptsOptions;
  readonly #interests: Uint8Array;
  #isTimerSet = false;
  #lookAgainMs = LOOK_AGAIN_MS;
  /** Answers to what was asked in an earlier life are ignored. */
  #life = 0;

  constructor(options: MessageInterruptsOptions) {
    this.#options = options;
    this.#interests = new Uint8Array(options.vectors);
  }

  /** Vectors with a message that is not sent. */
  get unsent(): number {
    return this.#interests.reduce((count, interest) => count + (interest === Interest.none ? 0 : 1), 0);
  }

  /** Sends the message of a vector as soon as its entry in the table lets it. */
  raise(vector: number): void {
    if (this.#interests[vector] === Interest.none) this.#look(vector);
  }

  /** The table may have changed: looks at every pending vector now. */
  lookAgain(): void {
    for (let vector = 0; vector < this.#interests.length; vector++) {
      if (this.#interests[vector] === Interest.pending) this.#look(vector);
    }
  }

  /** Forgets every message that is not sent: the device was reset, or the client has gone. */
  reset(): void {
    this.#life++;
    this.#lookAgainMs = LOOK_AGAIN_MS;
    this.#interests.fill(Interest.none);
  }

  #look(vector: number): void {
    const table = this.#options.tableAddress();
    if (table < 0) {
      this.#hold(vector);
      return;
    }
    const life = this.#life;
    const address = table + vector * MSIX_ENTRY_BYTES;
    const isAsked = this.#options.requester.read(address, MSIX_ENTRY_BYTES, (entry) => {
      if (life === this.#life) this.#found(vector, entry);
    });
    if (isAsked) this.#interests[vector] = Interest.reading;
    else this.#hold(vector);
  }

  #found(vector: number, entry: Uint8Array | undefined): void {
    if (entry?.length !== MSIX_ENTRY_BYTES) {
      this.refused++;
      this.#lookAgainMs = Math.min(2 * this.#lookAgainMs, LOOK_AGAIN_MS_MAX);
      this.#hold(vector);
      return;
    }
    this.#lookAgainMs = LOOK_AGAIN_MS;
    const fields = new Fields(entry);
    if ((fields.u32(12) & VECTOR_MASKED) !== 0) {
      this.#hold(vector);
      return;
    }
    this.#interests[vector] = Interest.none;
    this.sent++;
    this.#options.requester.write(addressFromHalves(fields.u32(0) & ~3, fields.u32(4)), entry.subarray(8, 12));
  }

  #hold(vector: number): void {
    this.#interests[vector] = Interest.pending;
    if (this.#isTimerSet) return;
    this.#isTimerSet = true;
    this.#options.after(this.#lookAgainMs, () => {
      this.#isTimerSet = false;
      this.lookAgain();
    });
  }
}
