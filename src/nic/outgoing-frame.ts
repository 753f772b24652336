// A fixed buffer that frames are built in, and the views of it that are handed out: no allocation per frame.
import { FrameBytes } from "./checksum.ts";
import { FRAME_BYTES_MAX_WITH_FCS, FRAME_BYTES_MIN, VLAN_TAG_BYTES } from "./frame-limits.ts";
import { insertVlanTag } from "./vlan.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const BYTES_MIN = FRAME_BYTES_MIN;

/** Frames begin here: on a word, with room before them for a tag. */
const START = 16;

/**
 * Views from one place, made once for each length. A new `subarray` costs more than copying a short frame, and a device
 * sends the same few lengths over and over.
 */
class Views {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #views = Array<Uint8Array | undefined>(FRAME_BYTES_MAX_WITH_FCS + 1).fill(undefined);

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#start = start;
  }

  of(length: number): Uint8Array {
    return (this.#views[length] ??= this.#bytes.subarray(this.#start, this.#start + length));
  }
}

export class OutgoingFrame {
  readonly frame: FrameBytes;
  readonly start = START;
  readonly #plain: Views;
  readonly #tagged: Views;

  /** Room for `bytesMax` bytes; what goes out of them in one piece is at most a frame of the device. */
  constructor(bytesMax: number) {
    this.frame = new FrameBytes(START + ((bytesMax + 3) & ~3));
    this.#plain = new Views(this.frame.bytes, START);
    this.#tagged = new Views(this.frame.bytes, START - VLAN_TAG_BYTES);
  }

  /** The frame of `length` bytes, padded to the least a frame has. */
  plain(length: number): Uint8Array {
    return this.#plain.of(this.#pad(START, length));
  }

  /** The same with a VLAN tag put in. */
  tagged(length: number, tag: number): Uint8Array {
    insertVlanTag(this.frame, START, tag);
    return this.#tagged.of(this.#pad(START - VLAN_TAG_BYTES, length + VLAN_TAG_BYTES));
  }

  #pad(start: number, length: number): number {
    if (length >= BYTES_MIN) return length;
    this.frame.bytes.fill(0, start + length, start + BYTES_MIN);
    return BYTES_MIN;
  }
}
