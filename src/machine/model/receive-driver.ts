// The guest's receive rings, after ixgbevf of Linux 6.1: pages with two halves, refill in batches, frames in pieces.
import type { RegisterAccess } from "../../nic/guest-driver.ts";
import { DESCRIPTOR_BYTES, RXD_ERR_CE, RXD_STAT_EOP } from "../../nic/descriptors.ts";
import {
  RXDCTL_ENABLE,
  RXDCTL_VME,
  SRRCTL_DESCTYPE_ADV_ONEBUF,
  SRRCTL_DROP_EN,
  VFDCA_RXCTRL,
  DCA_RXCTRL_DESC_RRO_EN,
  DCA_RXCTRL_DESC_WRO_EN,
  VFRDBAH,
  VFRDBAL,
  VFRDH,
  VFRDLEN,
  VFRDT,
  VFRXDCTL,
  VFSRRCTL,
} from "../../nic/registers.ts";
import type { CpuMemory } from "./cpu-memory.ts";
import { BufferMapping, type DmaMapping } from "./dma-mapping.ts";
import { DescriptorCopy } from "./descriptor-copy.ts";
import { HEADERS_BYTES } from "./frames.ts";
import type { Layout } from "./layout.ts";
import type { PageAllocator } from "./page-allocator.ts";
import { guestExpects, guestPanics } from "./panic.ts";
import { turnDescriptors, turnReceiveQueue } from "./ring-turning.ts";
import { emptyReceiveQueue, type ModelState, type ReceiveQueue, type SocketBuffer } from "./state.ts";

const UPPER_WORD_OFFSET = 8;
const LENGTH_WORD_OFFSET = 12;

export interface ReceiveDriverParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly memory: CpuMemory;
  readonly pages: PageAllocator;
  readonly registers: RegisterAccess;
  readonly mapping: DmaMapping | undefined;
}

/** Every method is one thing a device could race with, or nothing at all. */
export class ReceiveDriver {
  readonly #parts: ReceiveDriverParts;
  readonly #copy: DescriptorCopy;
  readonly mapping: BufferMapping;

  constructor(parts: ReceiveDriverParts) {
    this.#parts = parts;
    this.#copy = new DescriptorCopy(parts);
    this.mapping = new BufferMapping(parts);
  }

  #queue(queue: number): ReceiveQueue {
    const found = this.#parts.state().driver.receive[queue];
    return found ?? guestPanics(`there is no receive queue ${queue}`);
  }

  #descriptor(queue: number, slot: number): number {
    const { state, layout } = this.#parts;
    return layout.receiveRing(state().driver.ringArea, queue) + slot * DESCRIPTOR_BYTES;
  }

  #after(slot: number): number {
    return slot + 1 === this.#parts.layout.receiveDescriptors ? 0 : slot + 1;
  }

  /** ixgbevf_disable_rx_queue. Reading the register again also pushes out what the device has still on its way. */
  disable(queue: number): void {
    const { registers } = this.#parts;
    registers.write(VFRXDCTL(queue), registers.read(VFRXDCTL(queue)) & ~RXDCTL_ENABLE);
    guestExpects((registers.read(VFRXDCTL(queue)) & RXDCTL_ENABLE) === 0, `receive queue ${queue} cannot be disabled`);
  }

  /** ixgbevf_configure_rx_ring, up to the first buffers. */
  open(queue: number): void {
    const { state, layout, memory } = this.#parts;
    const control = this.#configure(queue);
    state().driver.receive[queue] = emptyReceiveQueue(layout.receiveDescriptors);
    const length = this.#descriptor(queue, 0) + LENGTH_WORD_OFFSET;
    memory.setWord(length, memory.word(length) & 0xffff_0000);
    if (layout.cooperation === "copy-descriptors") this.#copy.clear(queue);
    this.#enable(queue, control);
  }

  /** Gives the ring to the device again with what is in it, from its first descriptor on. */
  reopen(queue: number): void {
    this.#enable(queue, this.#configure(queue));
    this.publish(queue);
  }

  /** Leaves the queue disabled; gives what its control register was. */
  #configure(queue: number): number {
    const { state, layout, registers } = this.#parts;
    const control = registers.read(VFRXDCTL(queue));
    this.disable(queue);
    registers.write(VFRDBAL(queue), layout.receiveRing(state().driver.ringArea, queue));
    registers.write(VFRDBAH(queue), 0);
    registers.write(VFRDLEN(queue), layout.receiveDescriptors * DESCRIPTOR_BYTES);
    const writes = layout.descriptorWriteRelaxedOrdering ? DCA_RXCTRL_DESC_WRO_EN : 0;
    registers.write(VFDCA_RXCTRL(queue), DCA_RXCTRL_DESC_RRO_EN | writes);
    registers.write(VFRDH(queue), 0);
    registers.write(VFRDT(queue), 0);
    return control;
  }

  #enable(queue: number, control: number): void {
    const { layout, registers } = this.#parts;
    const size = layout.bufferBytes / layout.bufferUnitBytes;
    registers.write(VFSRRCTL(queue), SRRCTL_DROP_EN | SRRCTL_DESCTYPE_ADV_ONEBUF | size);
    registers.write(VFRXDCTL(queue), control | RXDCTL_ENABLE | RXDCTL_VME);
  }

  /** Before a reset: the descriptor that the hardware's head points at becomes the ring's first. */
  turn(queue: number): void {
    const { registers, state, layout, memory } = this.#parts;
    const { receiveDescriptors } = layout;
    const head = registers.read(VFRDH(queue));
    guestExpects(head < receiveDescriptors, `the head of receive queue ${queue} is ${head}`);
    turnDescriptors(memory, layout.receiveRing(state().driver.ringArea, queue), receiveDescriptors, head);
    turnReceiveQueue(this.#queue(queue), head);
  }

  /** ixgbevf_clean_rx_ring: every buffer and the unfinished frame go back to the allocator. */
  free(queue: number): void {
    const { pages, layout } = this.#parts;
    const ring = this.#queue(queue);
    if (ring.unfinished !== null) this.freeFrame(ring.unfinished);
    for (const page of ring.pages) {
      if (page < 0) continue;
      this.mapping.unmap(page);
      pages.release(page);
    }
    this.#parts.state().driver.receive[queue] = emptyReceiveQueue(layout.receiveDescriptors);
  }

  /** ixgbevf_desc_unused. */
  unused(queue: number): number {
    const { nextToUse, nextToClean } = this.#queue(queue);
    return (nextToClean > nextToUse ? 0 : this.#parts.layout.receiveDescriptors) + nextToClean - nextToUse - 1;
  }

  /**
   * One turn of ixgbevf_alloc_rx_buffers: an address into the next slot, and 0 into the length of the slot after it,
   * whose status stays as the last write-back left it. False when no page is to be had.
   */
  post(queue: number): boolean {
    const { memory, pages, state } = this.#parts;
    const ring = this.#queue(queue);
    const slot = ring.nextToUse;
    if ((ring.pages[slot] ?? -1) < 0) {
      const page = pages.allocate();
      if (page === undefined) {
        state().counters.allocationFailures++;
        return false;
      }
      this.mapping.map(page);
      ring.pages[slot] = page;
      ring.offsets[slot] = 0;
    }
    const descriptor = this.#descriptor(queue, slot);
    memory.setWord(descriptor, pages.address(ring.pages[slot] ?? 0) + (ring.offsets[slot] ?? 0));
    memory.setWord(descriptor + 4, 0);
    ring.nextToUse = this.#after(slot);
    const following = this.#descriptor(queue, ring.nextToUse) + LENGTH_WORD_OFFSET;
    memory.setWord(following, memory.word(following) & 0xffff_0000);
    return true;
  }

  /** The end of ixgbevf_alloc_rx_buffers: the device may have them. */
  publish(queue: number): void {
    const ring = this.#queue(queue);
    ring.nextToAlloc = ring.nextToUse;
    this.#parts.registers.write(VFRDT(queue), ring.nextToUse);
  }

  /** The length of the next descriptor: 0 while it is not done. ixgbevf_clean_rx_irq looks at nothing else first. */
  look(queue: number): number {
    const { nextToClean } = this.#queue(queue);
    return this.#parts.memory.word(this.#descriptor(queue, nextToClean) + LENGTH_WORD_OFFSET) & 0xffff;
  }

  status(queue: number): number {
    const { nextToClean } = this.#queue(queue);
    return this.#parts.memory.word(this.#descriptor(queue, nextToClean) + UPPER_WORD_OFFSET);
  }

  /** The next descriptor's slot has a buffer, posted or about to be. */
  hasBuffer(queue: number): boolean {
    const { pages, nextToClean } = this.#queue(queue);
    return (pages[nextToClean] ?? -1) >= 0;
  }

  /** A dummy write in two halves, for a device may write between the two: the first word of the next buffer. */
  readBuffer(queue: number): number {
    return this.#parts.memory.word(this.#nextBuffer(queue));
  }

  writeBuffer(queue: number, word: number): void {
    this.#parts.memory.setWord(this.#nextBuffer(queue), word);
  }

  #nextBuffer(queue: number): number {
    const { pages, offsets, nextToClean } = this.#queue(queue);
    return this.#parts.pages.address(pages[nextToClean] ?? 0) + (offsets[nextToClean] ?? 0);
  }

  copyDescriptor(queue: number, bytes: number, status: number): void {
    this.#copy.put(queue, this.#queue(queue).nextToClean, status, bytes);
  }

  /** What the driver's copy shows of the next descriptor, if it is done there. */
  copied(queue: number): { readonly bytes: number; readonly status: number } | undefined {
    const { nextToClean } = this.#queue(queue);
    const bytes = this.#copy.length(queue, nextToClean) & 0xffff;
    return bytes === 0 ? undefined : { bytes, status: this.#copy.status(queue, nextToClean) };
  }

  /**
   * Takes the buffer of the next descriptor: copied, or given to the frame as a piece of the page, whose other half goes
   * back to the ring if nobody else has it. The frame when this was its end; undefined when more is to come, when it is
   * thrown away, or when there was no memory for it, and then the descriptor is still the next one.
   */
  take(queue: number, bytes: number, status: number): { frame: SocketBuffer | undefined; isTaken: boolean } {
    const ring = this.#queue(queue);
    const slot = ring.nextToClean;
    const page = ring.pages[slot] ?? -1;
    if (page < 0) guestPanics(`receive queue ${queue}: descriptor ${slot} is done and was never posted`);
    if (!this.#addTo(ring, slot, page, bytes)) return { frame: undefined, isTaken: false };
    this.#putBuffer(ring, slot, page);
    if (this.#parts.layout.cooperation === "copy-descriptors") this.#copy.taken(queue, slot);
    ring.nextToClean = this.#after(slot);
    if ((status & RXD_STAT_EOP) === 0) return { frame: undefined, isTaken: true };
    const frame = ring.unfinished;
    ring.unfinished = null;
    guestExpects(frame !== null, "a frame ends that never began");
    if ((status & RXD_ERR_CE) === 0) return { frame, isTaken: true };
    this.#parts.state().counters.errors++;
    this.freeFrame(frame);
    return { frame: undefined, isTaken: true };
  }

  #addTo(ring: ReceiveQueue, slot: number, page: number, bytes: number): boolean {
    const { pages, memory, state } = this.#parts;
    const start = pages.address(page) + (ring.offsets[slot] ?? 0);
    if (ring.unfinished !== null) {
      this.#addFragment(ring, ring.unfinished, { slot, page, address: start, bytes });
      return true;
    }
    const headPage = pages.allocate();
    if (headPage === undefined) {
      state().counters.allocationFailures++;
      return false;
    }
    const headBytes = this.#copiedBytes(bytes);
    memory.copy(start, pages.address(headPage), headBytes);
    const frame: SocketBuffer = { headPage, headBytes, fragments: [] };
    ring.unfinished = frame;
    if (bytes > headBytes) {
      this.#addFragment(ring, frame, { slot, page, address: start + headBytes, bytes: bytes - headBytes });
    }
    return true;
  }

  /** ixgbevf_construct_skb. */
  #copiedBytes(bytes: number): number {
    const { headerBytes } = this.#parts.layout;
    return bytes <= headerBytes ? bytes : Math.min(HEADERS_BYTES, headerBytes, bytes);
  }

  /** skb_add_rx_frag, and page_offset ^= truesize. */
  #addFragment(
    ring: ReceiveQueue,
    frame: SocketBuffer,
    piece: { slot: number; page: number; address: number; bytes: number },
  ): void {
    const { layout, pages } = this.#parts;
    frame.fragments.push({ address: piece.address, bytes: piece.bytes });
    pages.own(piece.page);
    if (layout.buffersPerPage === 2) ring.offsets[piece.slot] = (ring.offsets[piece.slot] ?? 0) ^ layout.bufferBytes;
  }

  /** ixgbevf_put_rx_buffer with ixgbevf_can_reuse_rx_page and ixgbevf_reuse_rx_page. */
  #putBuffer(ring: ReceiveQueue, slot: number, page: number): void {
    const { layout, pages } = this.#parts;
    const ownersMax = layout.buffersPerPage;
    const offset = ring.offsets[slot] ?? 0;
    ring.pages[slot] = -1;
    if (pages.owners(page) > ownersMax) {
      this.mapping.left(page);
      pages.release(page);
      return;
    }
    ring.pages[ring.nextToAlloc] = page;
    ring.offsets[ring.nextToAlloc] = offset;
    ring.nextToAlloc = this.#after(ring.nextToAlloc);
  }

  freeFrame(frame: SocketBuffer): void {
    const { pages } = this.#parts;
    pages.release(frame.headPage);
    for (const { address } of frame.fragments) pages.release(pages.pageOf(address));
  }
}
