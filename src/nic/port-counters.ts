// The VF's frame and octet counters: 32 bits of frames, 36 bits of octets in two registers, wrapping.
import { OCTETS_MSB_MASK } from "./registers.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const HIGH_MASK = OCTETS_MSB_MASK;

/** Indices of one direction's counters in the register file. */
export interface PortCounters {
  readonly frames: number;
  readonly octetsLow: number;
  readonly octetsHigh: number;
}

/** Counts a good frame; `octets` includes the FCS (82599 datasheet, GORC and GOTC). */
export function countGoodFrame(registers: Uint32Array, counters: PortCounters, octets: number): void {
  registers[counters.frames] = (registers[counters.frames] as number) + 1;
  const before = registers[counters.octetsLow] as number;
  const low = (before + octets) >>> 0;
  registers[counters.octetsLow] = low;
  if (low >= before) return;
  registers[counters.octetsHigh] = ((registers[counters.octetsHigh] as number) + 1) & HIGH_MASK;
}
