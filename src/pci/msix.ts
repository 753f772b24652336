// MSI-X: the vector table and the pending bits in a memory BAR, with the masks that hold messages back.
import type { AccessBytes, MessageSink } from "./function.ts";

/** Bytes of one table entry: address low, address high, data, vector control. */
const ENTRY_BYTES = 16;
const VECTOR_MASKED = 1;

/** Message Control, at offset 2 of the capability (PCI Local Bus 3.0, section 6.8.2). */
export const MSIX_CONTROL_FUNCTION_MASK = 0x4000;
export const MSIX_CONTROL_ENABLE = 0x8000;

export interface MsixVectorState {
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
  readonly masked: boolean;
  readonly pending: boolean;
}

export interface MsixPlacement {
  readonly vectors: number;
  /** Where the table and the pending bits lie in their BAR; both multiples of 8. */
  readonly tableOffset: number;
  readonly pendingOffset: number;
}

/**
 * The vectors of one function. A message asked for while its vector, the function or bus mastering holds it back is
 * kept as a pending bit and sent when the last of them lets go: nothing is lost, repeats fold into one.
 */
export class MsixTable {
  readonly vectors: number;
  /** Messages handed to the interrupt controller. */
  sent = 0;
  /** Accesses narrower than 32 bits or misaligned: undefined by the standard, dropped here. */
  mistakes = 0;
  readonly #placement: MsixPlacement;
  readonly #messages: MessageSink;
  readonly #entries: Uint32Array;
  readonly #pending: Uint8Array;
  #enabled = false;
  #functionMasked = false;
  #busMaster = false;
  #held = false;

  constructor(placement: MsixPlacement, messages: MessageSink) {
    this.vectors = placement.vectors;
    this.#placement = placement;
    this.#messages = messages;
    this.#entries = new Uint32Array(placement.vectors * (ENTRY_BYTES / 4));
    this.#pending = new Uint8Array(placement.vectors);
    this.reset();
  }

  /** Whether the guest has switched MSI-X on at all; a function that has not been told may not signal. */
  get enabled(): boolean {
    return this.#enabled;
  }

  reset(): void {
    this.#entries.fill(0);
    for (let v = 0; v < this.vectors; v++) this.#entries[4 * v + 3] = VECTOR_MASKED;
    this.#pending.fill(0);
    this.#enabled = false;
    this.#functionMasked = false;
    this.#busMaster = false;
  }

  /** Takes over Message Control and the bus master bit, and sends what they held back. */
  setControl(messageControl: number, busMaster: boolean): void {
    this.#enabled = (messageControl & MSIX_CONTROL_ENABLE) !== 0;
    this.#functionMasked = (messageControl & MSIX_CONTROL_FUNCTION_MASK) !== 0;
    this.#busMaster = busMaster;
    for (let v = 0; v < this.vectors; v++) this.#release(v);
  }

  /** Keeps messages pending while the device is stopped; letting go sends those that nothing else holds back. */
  hold(held: boolean): void {
    this.#held = held;
    for (let v = 0; v < this.vectors; v++) this.#release(v);
  }

  /** Signals a vector: sends its message now, or marks it pending. */
  signal(vector: number): void {
    if (vector >= this.vectors) return;
    this.#pending[vector] = 1;
    this.#release(vector);
  }

  read(offset: number, bytes: AccessBytes): number {
    if ((offset & 3) !== 0 || bytes !== 4) {
      this.mistakes++;
      return 0;
    }
    const entry = offset - this.#placement.tableOffset;
    if (entry >= 0 && entry < this.vectors * ENTRY_BYTES) return this.#entries[entry >>> 2] ?? 0;
    return this.#pendingWord((offset - this.#placement.pendingOffset) / 4);
  }

  /** Only the table can be written; the pending bits are the function's. */
  write(offset: number, bytes: AccessBytes, value: number): void {
    if ((offset & 3) !== 0 || bytes !== 4) {
      this.mistakes++;
      return;
    }
    const entry = offset - this.#placement.tableOffset;
    if (entry < 0 || entry >= this.vectors * ENTRY_BYTES) return;
    const word = entry >>> 2;
    const field = word & 3;
    this.#entries[word] = field === 3 ? value & VECTOR_MASKED : field === 0 ? value & ~3 : value;
    if (field === 3) this.#release(word >>> 2);
  }

  save(): MsixVectorState[] {
    return Array.from({ length: this.vectors }, (_, v) => ({
      addressLow: this.#entries[4 * v] ?? 0,
      addressHigh: this.#entries[4 * v + 1] ?? 0,
      data: this.#entries[4 * v + 2] ?? 0,
      masked: this.#entries[4 * v + 3] === VECTOR_MASKED,
      pending: this.#pending[v] === 1,
    }));
  }

  /** Loads vectors without sending anything; setControl() or hold() afterwards sends what is pending and free to go. */
  restore(state: readonly MsixVectorState[]): void {
    this.reset();
    for (const [v, vector] of state.slice(0, this.vectors).entries()) {
      this.#entries[4 * v] = vector.addressLow & ~3;
      this.#entries[4 * v + 1] = vector.addressHigh;
      this.#entries[4 * v + 2] = vector.data;
      this.#entries[4 * v + 3] = vector.masked ? VECTOR_MASKED : 0;
      this.#pending[v] = vector.pending ? 1 : 0;
    }
  }

  #pendingWord(word: number): number {
    let bits = 0;
    for (let bit = 0; bit < 32; bit++) if (this.#pending[32 * word + bit] === 1) bits |= 1 << bit;
    return bits >>> 0;
  }

  #release(vector: number): void {
    const control = 4 * vector + 3;
    if (this.#pending[vector] === 0 || this.#entries[control] === VECTOR_MASKED) return;
    if (this.#held || !this.#enabled || this.#functionMasked || !this.#busMaster) return;
    this.#pending[vector] = 0;
    this.sent++;
    const entries = this.#entries;
    this.#messages.deliver(
      entries[4 * vector] as number,
      entries[4 * vector + 1] as number,
      entries[4 * vector + 2] as number,
    );
  }
}
