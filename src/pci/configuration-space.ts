// Configuration space as bytes with a write mask: what a function may be told, and what it answers.
import { assert } from "../base/assert.ts";
import type { AccessBytes } from "./function.ts";

/** PCI Express gives each function 4 KiB; plain PCI reaches the first 256 bytes of it. */
export const CONFIGURATION_BYTES = 4096;

/** Offsets in the common header (PCI Local Bus 3.0, section 6.1). */
export const ConfigurationOffset = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  classCode: 0x09,
  cacheLineSize: 0x0c,
  bars: 0x10,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  capabilities: 0x34,
  interruptLine: 0x3c,
} as const;

export const COMMAND_MEMORY = 0x0002;
export const COMMAND_BUS_MASTER = 0x0004;
const STATUS_CAPABILITIES = 0x0010;

/**
 * The bytes and their write mask. Accesses that are not naturally aligned, or leave the 4 KiB, are the guest's
 * mistake: they read as all ones and write nothing. Extended space without capabilities reads as zero.
 */
export class ConfigurationSpace {
  /** Accesses that were misaligned or out of range. */
  mistakes = 0;
  readonly #values = new DataView(new ArrayBuffer(CONFIGURATION_BYTES));
  readonly #masks = new DataView(new ArrayBuffer(CONFIGURATION_BYTES));
  #lastCapability = 0;

  /** Lays down a field: its value and the bits the guest may write. */
  define(offset: number, bytes: AccessBytes, value: number, writeMask = 0): void {
    this.set(offset, bytes, value);
    const masks = this.#masks;
    if (bytes === 1) masks.setUint8(offset, writeMask);
    else if (bytes === 2) masks.setUint16(offset, writeMask, true);
    else masks.setUint32(offset, writeMask, true);
  }

  /** Links a capability into the list, in the order of the calls. Its body is laid down with define(). */
  linkCapability(offset: number, id: number): void {
    assert(offset >= 0x40 && offset < 0x100 && (offset & 3) === 0, `no place for a capability: ${offset}`);
    if (this.#lastCapability === 0) {
      this.define(ConfigurationOffset.capabilities, 1, offset);
      this.set(ConfigurationOffset.status, 2, this.get(ConfigurationOffset.status, 2) | STATUS_CAPABILITIES);
    } else {
      this.define(this.#lastCapability + 1, 1, offset);
    }
    this.define(offset, 1, id);
    this.define(offset + 1, 1, 0);
    this.#lastCapability = offset;
  }

  /** The device's own view, without masks. */
  get(offset: number, bytes: AccessBytes): number {
    const values = this.#values;
    if (bytes === 1) return values.getUint8(offset);
    return bytes === 2 ? values.getUint16(offset, true) : values.getUint32(offset, true);
  }

  /** The device's own write, without masks. */
  set(offset: number, bytes: AccessBytes, value: number): void {
    const values = this.#values;
    if (bytes === 1) values.setUint8(offset, value);
    else if (bytes === 2) values.setUint16(offset, value, true);
    else values.setUint32(offset, value, true);
  }

  read(offset: number, bytes: AccessBytes): number {
    if (this.#isBad(offset, bytes)) return bytes === 4 ? 0xffff_ffff : (1 << (8 * bytes)) - 1;
    return this.get(offset, bytes);
  }

  /** A write of the guest; false if it was dropped. */
  write(offset: number, bytes: AccessBytes, value: number): boolean {
    if (this.#isBad(offset, bytes)) return false;
    for (let i = 0; i < bytes; i++) {
      const mask = this.#masks.getUint8(offset + i);
      const byte = (value >>> (8 * i)) & 0xff;
      this.#values.setUint8(offset + i, (this.#values.getUint8(offset + i) & ~mask) | (byte & mask));
    }
    return true;
  }

  /** Loads a saved field: only the bits the guest could have written are taken over. */
  load(offset: number, bytes: AccessBytes, value: number): void {
    this.write(offset, bytes, value);
  }

  #isBad(offset: number, bytes: AccessBytes): boolean {
    const good =
      Number.isInteger(offset) && offset >= 0 && offset % bytes === 0 && offset + bytes <= CONFIGURATION_BYTES;
    if (!good) this.mistakes++;
    return !good;
  }
}
