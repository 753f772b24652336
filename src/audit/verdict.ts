// What the audit says: consistent or corrupt, with the bytes, the frames, and what it did not look at.
import type { Hazard, Point } from "./hazards.ts";

export interface Corruption {
  readonly hazard: Hazard;
  /** What is wrong, in words. */
  readonly sentence: string;
  /** Guest physical address of the first wrong byte, as "0x…"; of a register its offset in BAR0; else 0x0. */
  readonly address: string;
  /** Wrong bytes; 0 where no bytes of memory are wrong. */
  readonly lengthBytes: number;
  /** Page number of the address, or -1 where it is not one of memory. */
  readonly page: number;
  readonly queue?: number;
  readonly descriptor?: number;
  /** Ordinal of the frame in its queue since the ledger began. */
  readonly frame?: number;
  /** The frame that should be there, as "TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 1 len 1448". */
  readonly frameSummary?: string;
  /** At most 16 bytes from `address` on. */
  readonly expectedHex: string;
  readonly actualHex: string;
  /** The actual bytes are known to be older: what was there before a write of the device, or never sent (zero). */
  readonly isStale: boolean;
}

/** The cut of one receive queue. Descriptors are indices into the ring. */
export interface ReceiveCut {
  readonly queue: number;
  readonly ringDescriptors: number;
  readonly headAtPause: number;
  readonly tail: number;
  /** The first descriptor that is not done in the destination's image. */
  readonly cut: number;
  readonly headAtResume: number;
  readonly headAtSourceEnd: number;
  /** Descriptors done after P that came along. */
  readonly descriptorsCarried: number;
  readonly framesCarried: number;
  readonly isInsideFrame: boolean;
}

export interface TransmitCut {
  readonly queue: number;
  readonly ringDescriptors: number;
  readonly headAtPause: number;
  readonly headAtResume: number;
  readonly headAtSourceEnd: number;
  readonly tail: number;
  /** Frames that the source's device has sent and the destination's will send again. */
  readonly framesSentTwice: number;
}

export interface FrameAccount {
  /** Frames whose last write-back lies before the cut, since the ledger began. */
  readonly delivered: number;
  /** Frames that the source's device completed after the cut: the guest never sees them. */
  readonly discarded: number;
  /** Frames of which some descriptors were written and the last was not. */
  readonly unfinished: number;
  readonly dropped: Readonly<Record<string, number>>;
  readonly sentTwice: number;
  /** Delivered frames of which some byte is wrong on the destination. */
  readonly stale: number;
}

export interface Verdict {
  readonly outcome: "consistent" | "corrupt";
  /** The eight points of a legal cut, and how often each is broken. */
  readonly points: readonly { readonly point: Point; readonly sentence: string; readonly violations: number }[];
  readonly receive: readonly ReceiveCut[];
  readonly transmit: readonly TransmitCut[];
  readonly frames: FrameAccount;
  /** At most `listedMax`; `totals` and `hazards` count all. */
  readonly corruptions: readonly Corruption[];
  /** Every page and byte that the CPU may look at and that is wrong, and the frames they belong to. */
  readonly totals: {
    readonly corruptions: number;
    readonly frames: number;
    readonly pages: number;
    readonly bytes: number;
  };
  /** How often each hazard was found; hazards that were not found are left out. */
  readonly hazards: Readonly<Partial<Record<Hazard, number>>>;
  /** Bytes left out of the comparison: buffers of posted, not-done descriptors. */
  readonly excusedBytes: number;
  readonly verifies: readonly string[];
  readonly doesNotVerify: readonly string[];
}
