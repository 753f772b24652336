// A guest for tests: it finds the VF on the bus, sets it up as ixgbevf does, sends, receives and takes interrupts.
import assert from "node:assert/strict";
import { ManualClock } from "../base/clock.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { IdentityDomain } from "../iommu/domain.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { DESCRIPTOR_BYTES, RXD_STAT_DD, RXD_STAT_EOP, TXD_CMD_DEXT, TXD_CMD_EOP, TXD_CMD_RS } from "./descriptors.ts";
import { TXD_DTYP_DATA, TXD_PAYLEN_SHIFT, TXD_STAT_DD } from "./descriptors.ts";
import { VfDriver } from "./guest-driver.ts";
import { MessageType } from "./mailbox-messages.ts";
import * as r from "./registers.ts";
import { Vf82599 } from "./vf82599.ts";
import type { Vf82599Options } from "./vf82599.ts";

export const guestMac = Uint8Array.of(2, 0, 0, 0, 0, 0x11);
export const otherMac = Uint8Array.of(2, 0, 0, 0, 0, 0x22);

const RING_DESCRIPTORS = 64;
const BUFFER_BYTES = 2048;
const MEMORY_BYTES = 1 << 20;
const RX_RING = 0x1000;
const TX_RING = 0x3000;
const RX_BUFFERS = 0x1_0000;
const TX_BUFFERS = 0x8_0000;
const BAR0_ADDRESS = 0xf000_0000;
const BAR3_ADDRESS = 0xf000_4000;

export function frameTo(destination: Uint8Array, source: Uint8Array, bytes: number, fill: number): Uint8Array {
  const frame = new Uint8Array(bytes).fill(fill);
  frame.set(destination, 0);
  frame.set(source, 6);
  frame.set([0x88, 0xb5], 12);
  return frame;
}

export type VfChanges = Partial<Vf82599Options> & { readonly wrapDma?: (port: DmaPort) => DmaPort };

/** One queue pair on vector 0, the mailbox on vector 1. The RAM may be another guest's: that is how it migrates. */
export class TestGuest {
  readonly memory: BufferMemory;
  readonly clock = new ManualClock(1000);
  /** Data of the messages delivered: the vector's number. */
  readonly interrupts: number[] = [];
  readonly sent: Uint8Array[] = [];
  readonly vf: Vf82599;
  readonly driver: VfDriver;
  #rxNext = 0;
  #rxTail = 0;
  #txNext = 0;
  #txClean = 0;

  constructor(changes: VfChanges = {}, memory = new BufferMemory(MEMORY_BYTES)) {
    const { wrapDma = (port) => port, ...options } = changes;
    this.memory = memory;
    this.vf = new Vf82599({
      dma: wrapDma(new GuestDma({ memory, domain: new IdentityDomain() })),
      messages: { deliver: (_low, _high, data) => void this.interrupts.push(data) },
      uplink: { frame: (bytes) => void this.sent.push(bytes.slice()) },
      clock: this.clock,
      mac: guestMac,
      ...options,
    });
    this.driver = new VfDriver({
      read: (offset) => this.read(offset),
      write: (offset, value) => this.write(offset, value),
    });
  }

  read(offset: number): number {
    return this.vf.readBar(0, offset, 4);
  }

  write(offset: number, value: number): void {
    this.vf.writeBar(0, offset, 4, value >>> 0);
  }

  /** Everything from an empty bus to traffic: probe and open. */
  boot(): void {
    this.enumerate();
    this.probe();
    this.open();
  }

  /** BARs, bus master, MSI-X, as firmware and PCI core do. */
  enumerate(): void {
    const { vf } = this;
    assert.equal(vf.readConfiguration(0, 4), 0x10ed_8086);
    vf.writeConfiguration(0x10, 4, BAR0_ADDRESS);
    vf.writeConfiguration(0x1c, 4, BAR3_ADDRESS);
    vf.writeConfiguration(0x04, 2, 0x0006);
    assert.equal(vf.barAddress(0), BAR0_ADDRESS);
    for (let vector = 0; vector < 2; vector++) {
      vf.writeBar(3, 16 * vector, 4, 0xfee0_0000);
      vf.writeBar(3, 16 * vector + 8, 4, vector);
      vf.writeBar(3, 16 * vector + 12, 4, 0);
    }
    vf.writeConfiguration(0x72, 2, 0x8000);
  }

  /** ixgbevf_sw_init. */
  probe(): void {
    this.driver.reset();
    this.driver.negotiate();
    assert.deepEqual(this.driver.mac, [...guestMac]);
  }

  /** ixgbevf_configure and ixgbevf_up_complete. */
  open(): void {
    const { driver } = this;
    assert.ok(driver.isAccepted([MessageType.getQueues, 0, 0, 0, 0]));
    assert.ok(driver.isAccepted([MessageType.updateCastMode, 1]));
    assert.ok(driver.isAccepted([MessageType.setMulticast | (1 << 16), 0x010]));
    assert.ok(driver.isAccepted([MessageType.setMaximumFrame, 1518]));
    this.#openTransmit();
    this.#openReceive();
    this.write(r.VTIVAR(0), ((r.VTIVAR_VALID << 8) | r.VTIVAR_VALID) >>> 0);
    this.write(r.VTEITR(0), r.VTEITR_CNT_WDIS);
    this.write(r.VTIVAR_MISC, r.VTIVAR_VALID | 1);
    assert.ok(driver.isAccepted([MessageType.getLinkState, 0]));
    this.read(r.VTEICR);
    this.write(r.VTEIAM, 3);
    this.write(r.VTEIAC, 3);
    this.write(r.VTEIMS, 3);
    driver.getLinkStatus = true;
  }

  #openTransmit(): void {
    this.write(r.VFTXDCTL(0), r.TXDCTL_SWFLSH);
    this.write(r.VFTDBAL(0), TX_RING);
    this.write(r.VFTDBAH(0), 0);
    this.write(r.VFTDLEN(0), RING_DESCRIPTORS * DESCRIPTOR_BYTES);
    this.write(r.VFTDWBAH(0), 0);
    this.write(r.VFTDWBAL(0), 0);
    this.write(r.VFTDH(0), 0);
    this.write(r.VFTDT(0), 0);
    this.#txNext = 0;
    this.#txClean = 0;
    this.write(r.VFTXDCTL(0), r.TXDCTL_ENABLE | (8 << r.TXDCTL_WTHRESH_SHIFT) | (1 << 8) | 32);
    assert.ok((this.read(r.VFTXDCTL(0)) & r.TXDCTL_ENABLE) !== 0);
  }

  #openReceive(): void {
    const control = this.read(r.VFRXDCTL(0));
    this.write(r.VFRXDCTL(0), control & ~r.RXDCTL_ENABLE);
    this.write(r.VFRDBAL(0), RX_RING);
    this.write(r.VFRDBAH(0), 0);
    this.write(r.VFRDLEN(0), RING_DESCRIPTORS * DESCRIPTOR_BYTES);
    this.write(r.VFRDH(0), 0);
    this.write(r.VFRDT(0), 0);
    this.memory.words()[RX_RING / 4 + 3] = 0;
    this.#rxNext = 0;
    this.#rxTail = 0;
    this.write(r.VFSRRCTL(0), (r.SRRCTL_DROP_EN | r.SRRCTL_DESCTYPE_ADV_ONEBUF | (BUFFER_BYTES >>> 10)) >>> 0);
    this.write(r.VFRXDCTL(0), control | r.RXDCTL_ENABLE | r.RXDCTL_VME);
    assert.ok((this.read(r.VFRXDCTL(0)) & r.RXDCTL_ENABLE) !== 0);
    this.post(RING_DESCRIPTORS - 1);
  }

  /** ixgbevf_alloc_rx_buffers: posts buffers and clears the length of the descriptor after them. */
  post(count: number): void {
    const words = this.memory.words();
    for (let i = 0; i < count; i++) {
      const at = (RX_RING + this.#rxTail * DESCRIPTOR_BYTES) / 4;
      words[at] = RX_BUFFERS + this.#rxTail * BUFFER_BYTES;
      words[at + 1] = 0;
      this.#rxTail = (this.#rxTail + 1) % RING_DESCRIPTORS;
      words[(RX_RING + this.#rxTail * DESCRIPTOR_BYTES) / 4 + 3] = 0;
    }
    this.write(r.VFRDT(0), this.#rxTail);
  }

  /** ixgbevf_clean_rx_irq: frames of one buffer whose length is not zero; the buffers go back. */
  poll(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const words = this.memory.words();
    for (;;) {
      const at = (RX_RING + this.#rxNext * DESCRIPTOR_BYTES) / 4;
      const length = (words[at + 3] ?? 0) & 0xffff;
      if (length === 0) break;
      assert.equal((words[at + 2] ?? 0) & 3, RXD_STAT_DD | RXD_STAT_EOP);
      const buffer = RX_BUFFERS + this.#rxNext * BUFFER_BYTES;
      frames.push(this.memory.bytes().slice(buffer, buffer + length));
      words[at + 3] = 0;
      this.#rxNext = (this.#rxNext + 1) % RING_DESCRIPTORS;
    }
    this.post(frames.length);
    this.write(r.VTEIMS, 1);
    return frames;
  }

  transmit(frame: Uint8Array): void {
    const words = this.memory.words();
    const buffer = TX_BUFFERS + this.#txNext * BUFFER_BYTES;
    this.memory.bytes().set(frame, buffer);
    const at = (TX_RING + this.#txNext * DESCRIPTOR_BYTES) / 4;
    words[at] = buffer;
    words[at + 1] = 0;
    words[at + 2] = (TXD_CMD_DEXT | TXD_DTYP_DATA | TXD_CMD_EOP | TXD_CMD_RS | frame.length) >>> 0;
    words[at + 3] = (frame.length << TXD_PAYLEN_SHIFT) >>> 0;
    this.#txNext = (this.#txNext + 1) % RING_DESCRIPTORS;
    this.write(r.VFTDT(0), this.#txNext);
  }

  /** ixgbevf_clean_tx_irq: how many descriptors were reported done since last asked. */
  clean(): number {
    let done = 0;
    for (; this.#txClean !== this.#txNext; done++) {
      const status = this.memory.words()[(TX_RING + this.#txClean * DESCRIPTOR_BYTES) / 4 + 3] ?? 0;
      if ((status & TXD_STAT_DD) === 0 || status > 1) break;
      this.#txClean = (this.#txClean + 1) % RING_DESCRIPTORS;
    }
    this.write(r.VTEIMS, 1);
    return done;
  }

  /** Goes on where another guest of the same memory was: the driver's variables, which lie in guest memory, move too. */
  continueFrom(source: TestGuest): void {
    this.#rxNext = source.#rxNext;
    this.#rxTail = source.#rxTail;
    this.#txNext = source.#txNext;
    this.#txClean = source.#txClean;
    this.driver.mailbox.strict = source.driver.mailbox.strict;
  }
}
