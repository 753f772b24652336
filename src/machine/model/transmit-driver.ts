// The guest's transmit rings, after ixgbevf: frames in one or two descriptors, context descriptors, cleaning on DD.
import type { RegisterAccess } from "../../nic/guest-driver.ts";
import {
  DESCRIPTOR_BYTES,
  TXC_L4LEN_SHIFT,
  TXC_L4T_UDP,
  TXC_MACLEN_SHIFT,
  TXC_TUCMD_IPV4,
  TXD_CMD_DEXT,
  TXD_CMD_EOP,
  TXD_CMD_RS,
  TXD_DTYP_CONTEXT,
  TXD_DTYP_DATA,
  TXD_IDX_SHIFT,
  TXD_PAYLEN_SHIFT,
  TXD_POPTS_IXSM,
  TXD_POPTS_TXSM,
  TXD_STAT_DD,
} from "../../nic/descriptors.ts";
import {
  DCA_TXCTRL_DESC_RRO_EN,
  TDWBAL_HEAD_WB_ENABLE,
  TXDCTL_ENABLE,
  TXDCTL_SWFLSH,
  TXDCTL_WTHRESH_SHIFT,
  VFDCA_TXCTRL,
  VFTDBAH,
  VFTDBAL,
  VFTDH,
  VFTDLEN,
  VFTDT,
  VFTDWBAH,
  VFTDWBAL,
  VFTXDCTL,
} from "../../nic/registers.ts";
import type { CpuMemory } from "./cpu-memory.ts";
import { HEADERS_BYTES, IP_OFFSET, UDP_OFFSET } from "./frames.ts";
import type { Layout } from "./layout.ts";
import type { PageAllocator } from "./page-allocator.ts";
import { guestExpects, guestPanics } from "./panic.ts";
import { turnDescriptors, turnTransmitQueue } from "./ring-turning.ts";
import { emptyTransmitQueue, type ModelState, type TransmitQueue } from "./state.ts";

/** A frame needs at most a context and two data descriptors. */
const DESCRIPTORS_PER_FRAME_MAX = 3;
const WTHRESH = 8;
const STATUS_WORD_OFFSET = 12;
const CONTEXT_SLOT = 1;
const UDP_HEADER_BYTES = 8;

export interface TransmitDriverParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly memory: CpuMemory;
  readonly pages: PageAllocator;
  readonly registers: RegisterAccess;
}

export class TransmitDriver {
  readonly #parts: TransmitDriverParts;

  constructor(parts: TransmitDriverParts) {
    this.#parts = parts;
  }

  #queue(queue: number): TransmitQueue {
    const found = this.#parts.state().driver.transmit[queue];
    return found ?? guestPanics(`there is no transmit queue ${queue}`);
  }

  #descriptor(queue: number, slot: number): number {
    const { state, layout } = this.#parts;
    return layout.transmitRing(state().driver.ringArea, queue) + slot * DESCRIPTOR_BYTES;
  }

  #headWord(queue: number): number {
    const { state, layout } = this.#parts;
    return layout.headWord(state().driver.ringArea, queue);
  }

  #after(slot: number): number {
    return slot + 1 === this.#parts.layout.transmitDescriptors ? 0 : slot + 1;
  }

  disable(queue: number): void {
    this.#parts.registers.write(VFTXDCTL(queue), TXDCTL_SWFLSH);
  }

  /** ixgbevf_configure_tx_ring. */
  open(queue: number): void {
    this.#configure(queue);
    this.#parts.state().driver.transmit[queue] = emptyTransmitQueue();
    this.#enable(queue);
  }

  /** Gives the ring to the device again with what is in it, from its first descriptor on. */
  reopen(queue: number): void {
    this.#configure(queue);
    this.#enable(queue);
    this.publish(queue);
  }

  #configure(queue: number): void {
    const { state, layout, memory, registers } = this.#parts;
    registers.write(VFTXDCTL(queue), TXDCTL_SWFLSH);
    registers.write(VFTDBAL(queue), layout.transmitRing(state().driver.ringArea, queue));
    registers.write(VFTDBAH(queue), 0);
    registers.write(VFTDLEN(queue), layout.transmitDescriptors * DESCRIPTOR_BYTES);
    registers.write(VFTDWBAH(queue), 0);
    registers.write(VFTDWBAL(queue), layout.headWriteBack ? this.#headWord(queue) | TDWBAL_HEAD_WB_ENABLE : 0);
    if (layout.headWriteBack) memory.setWord(this.#headWord(queue), 0);
    registers.write(VFDCA_TXCTRL(queue), DCA_TXCTRL_DESC_RRO_EN);
    registers.write(VFTDH(queue), 0);
    registers.write(VFTDT(queue), 0);
  }

  #enable(queue: number): void {
    const control = TXDCTL_ENABLE | (WTHRESH << TXDCTL_WTHRESH_SHIFT) | (1 << 8) | 32;
    this.#parts.registers.write(VFTXDCTL(queue), control);
  }

  /**
   * Before a reset: the descriptor that the hardware's head points at becomes the ring's first. What lies before it was
   * fetched and is never reported any more if it has not been by now, so its pages come back.
   */
  turn(queue: number): void {
    const { registers, state, layout, memory } = this.#parts;
    const { transmitDescriptors } = layout;
    const head = registers.read(VFTDH(queue));
    guestExpects(head < transmitDescriptors, `the head of transmit queue ${queue} is ${head}`);
    while (this.clean(queue));
    const ring = this.#queue(queue);
    for (
      let [oldest] = ring.reports;
      oldest !== undefined && this.#isBefore(ring, oldest.slot, head);
      [oldest] = ring.reports
    ) {
      this.#giveBack(ring, oldest);
      state().counters.abandoned += oldest.pages.length;
    }
    turnDescriptors(memory, layout.transmitRing(state().driver.ringArea, queue), transmitDescriptors, head);
    turnTransmitQueue(ring, head, transmitDescriptors);
  }

  /** Whether a slot comes before the head, going up from the oldest that is not cleaned. */
  #isBefore({ nextToClean }: TransmitQueue, slot: number, head: number): boolean {
    const count = this.#parts.layout.transmitDescriptors;
    return (slot - nextToClean + count) % count < (head - nextToClean + count) % count;
  }

  /** ixgbevf_clean_tx_ring: what was not sent is lost. */
  free(queue: number): void {
    const { pages, state } = this.#parts;
    const ring = this.#queue(queue);
    const unsent = [...ring.reports.flatMap((report) => report.pages), ...ring.unreported];
    for (const page of unsent) pages.release(page);
    state().counters.abandoned += unsent.length;
    state().driver.transmit[queue] = emptyTransmitQueue();
  }

  hasRoom(queue: number): boolean {
    const { nextToUse, nextToClean } = this.#queue(queue);
    const count = this.#parts.layout.transmitDescriptors;
    return (nextToClean - nextToUse - 1 + count) % count >= DESCRIPTORS_PER_FRAME_MAX;
  }

  /** Writes the descriptors of the frame in a page, headers and payload apart for every other one. */
  post(queue: number, page: number, bytes: number): void {
    const { layout, pages } = this.#parts;
    const ring = this.#queue(queue);
    if (ring.framesSinceContext % layout.transmitContextEvery === 0) this.#putContext(queue, ring);
    ring.framesSinceContext++;
    ring.framesSinceReport++;
    const isReported = ring.framesSinceReport >= layout.transmitReportEvery;
    const start = pages.address(page);
    const isSplit = ring.framesSinceContext % 2 === 0;
    const options =
      ((bytes << TXD_PAYLEN_SHIFT) | TXD_POPTS_IXSM | TXD_POPTS_TXSM | (CONTEXT_SLOT << TXD_IDX_SHIFT)) >>> 0;
    const data = TXD_CMD_DEXT | TXD_DTYP_DATA;
    const last = data | TXD_CMD_EOP | (isReported ? TXD_CMD_RS : 0);
    if (isSplit) this.#put(queue, ring, [start, 0, data | HEADERS_BYTES, options]);
    const headBytes = isSplit ? HEADERS_BYTES : 0;
    const slot = ring.nextToUse;
    this.#put(queue, ring, [start + headBytes, 0, last | (bytes - headBytes), options]);
    ring.unreported.push(page);
    if (!isReported) return;
    ring.reports.push({ slot, pages: ring.unreported });
    ring.unreported = [];
    ring.framesSinceReport = 0;
  }

  #putContext(queue: number, ring: TransmitQueue): void {
    const lengths = (IP_OFFSET << TXC_MACLEN_SHIFT) | (UDP_OFFSET - IP_OFFSET);
    const type = TXD_CMD_DEXT | TXD_DTYP_CONTEXT | TXC_TUCMD_IPV4 | TXC_L4T_UDP;
    const layer4 = (UDP_HEADER_BYTES << TXC_L4LEN_SHIFT) | (CONTEXT_SLOT << TXD_IDX_SHIFT);
    this.#put(queue, ring, [lengths, 0, type, layer4]);
  }

  #put(queue: number, ring: TransmitQueue, words: readonly number[]): void {
    const descriptor = this.#descriptor(queue, ring.nextToUse);
    for (const [i, word] of words.entries()) this.#parts.memory.setWord(descriptor + 4 * i, word);
    ring.nextToUse = this.#after(ring.nextToUse);
  }

  publish(queue: number): void {
    this.#parts.registers.write(VFTDT(queue), this.#queue(queue).nextToUse);
  }

  /** One turn of ixgbevf_clean_tx_irq. False when the oldest report has not come. */
  clean(queue: number): boolean {
    const ring = this.#queue(queue);
    const [oldest] = ring.reports;
    if (oldest === undefined || !this.#isReported(queue, ring, oldest.slot)) return false;
    this.#giveBack(ring, oldest);
    this.#parts.state().counters.completed += oldest.pages.length;
    return true;
  }

  /** The ring's oldest report is done with: its descriptors and its pages are the driver's again. */
  #giveBack(ring: TransmitQueue, oldest: TransmitQueue["reports"][number]): void {
    ring.reports.shift();
    ring.nextToClean = this.#after(oldest.slot);
    for (const page of oldest.pages) this.#parts.pages.release(page);
  }

  #isReported(queue: number, ring: TransmitQueue, slot: number): boolean {
    const { layout, memory } = this.#parts;
    if (!layout.headWriteBack) {
      return (memory.word(this.#descriptor(queue, slot) + STATUS_WORD_OFFSET) & TXD_STAT_DD) !== 0;
    }
    return this.#isBefore(ring, slot, memory.word(this.#headWord(queue)));
  }
}
