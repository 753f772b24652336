// What becomes of received frames, counted: in the VF's registers for the guest, in a record for the host.
import { FCS_BYTES } from "./frame-limits.ts";
import { countGoodFrame, type PortCounters } from "./port-counters.ts";
import { VFGORC_LSB, VFGORC_MSB, VFGPRC, VFMPRC } from "./registers.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const FCS = FCS_BYTES;
const MULTICASTS = VFMPRC >>> 2;

/** Frames that did not get as far as the packet buffer. */
export interface IntakeCounters {
  /** Shorter than an Ethernet header. */
  runts: number;
  /** Longer than the PF allows. */
  oversized: number;
  packetBufferFull: number;
  /** The queue was not ready, or ceased to be while the frame waited or was written. */
  queueNotReady: number;
}

/** Frames by what became of them, since the unit was made. None of it is the host's mistake. */
export interface ReceiveCounters extends IntakeCounters {
  /** Whole frames that reached the driver. */
  delivered: number;
  /** No descriptors, and the queue drops such frames (DROP_EN), or its ring can never hold the frame. */
  withoutDescriptors: number;
  /** A buffer could not be written: the driver got a descriptor with an error instead. */
  bufferFaults: number;
  /** A descriptor could not be read or written back: the queue stands still. */
  descriptorFaults: number;
  /** Frames whose rest was lost in a migration: the driver got their end with an error. */
  endsOwed: number;
}

export function newReceiveCounters(): ReceiveCounters {
  return {
    delivered: 0,
    runts: 0,
    oversized: 0,
    packetBufferFull: 0,
    withoutDescriptors: 0,
    queueNotReady: 0,
    bufferFaults: 0,
    descriptorFaults: 0,
    endsOwed: 0,
  };
}

const goodFrames: PortCounters = {
  frames: VFGPRC >>> 2,
  octetsLow: VFGORC_LSB >>> 2,
  octetsHigh: VFGORC_MSB >>> 2,
};

/** A group address other than the broadcast address, of a frame that starts on a word. */
function isMulticast(words: Uint32Array, offset: number): boolean {
  const first = words[offset >>> 2] as number;
  return (first & 1) !== 0 && !(first === 0xffff_ffff && ((words[(offset >>> 2) + 1] as number) & 0xffff) === 0xffff);
}

/** Counts a frame at `offset`, a multiple of four, as delivered: in the registers VFGPRC, VFGORC and VFMPRC. */
export function countDelivered(registers: Uint32Array, words: Uint32Array, offset: number, length: number): void {
  countGoodFrame(registers, goodFrames, length + FCS);
  if (isMulticast(words, offset)) registers[MULTICASTS] = (registers[MULTICASTS] as number) + 1;
}
