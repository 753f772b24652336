// What a PCI function offers to the machine it is plugged into, the same for every machine.

export type AccessBytes = 1 | 2 | 4;

/** One memory BAR of a function. `size` is a power of two in bytes. */
export interface BarDescription {
  /** BAR number, 0 to 5; a 64-bit BAR also takes the next number. */
  readonly index: number;
  readonly sizeBytes: number;
  readonly is64Bit: boolean;
}

/**
 * A PCI function. The machine routes configuration and BAR accesses to it; values are unsigned. Reads of nothing
 * return all ones of that width; writes to nothing are dropped; odd widths and offsets are the guest's mistake and
 * never throw.
 */
export interface PciFunction {
  readonly bars: readonly BarDescription[];
  readConfiguration(offset: number, bytes: AccessBytes): number;
  writeConfiguration(offset: number, bytes: AccessBytes, value: number): void;
  readBar(bar: number, offset: number, bytes: AccessBytes): number;
  writeBar(bar: number, offset: number, bytes: AccessBytes, value: number): void;
  /** Guest address a BAR answers at now, or -1 while memory decoding is off or the address is not programmed. */
  barAddress(bar: number): number;
  /** Called after each configuration write that moved, enabled or disabled a BAR. The machine sets it. */
  onBarsChanged: () => void;
}

/** Where MSI and MSI-X messages go: the machine's interrupt controller. */
export interface MessageSink {
  /** Delivers the message `data` written to `addressLow`/`addressHigh`. */
  deliver(addressLow: number, addressHigh: number, data: number): void;
}
