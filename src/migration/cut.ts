// The cut: what a ring that was read while the device wrote it may show the destination.

/** What the driver posted in each slot of a ring, which write-back destroys in memory. Descriptor shadowing keeps it. */
export interface Postings {
  /** Copies the four words of the slot's current posting into target[0..4); false if the slot was never posted. */
  postedWords(queue: number, slot: number, target: Uint32Array): boolean;
}

export interface RingToCut {
  readonly queue: number;
  /** The ring as read: four little-endian words a slot. Changed in place. */
  readonly words: Uint32Array;
  /** Device head at the pause: every slot before it was written back, and may have been looked at. */
  readonly headAtPause: number;
  /** Driver tail at the pause; [headAtPause, tail) was posted and not done then. */
  readonly tail: number;
  /** At the pause, some descriptors of a frame were written back and its end of packet was not. */
  readonly frameInProgressAtPause: boolean;
}

export interface Cut {
  /** First slot the destination's device writes. */
  readonly head: number;
  /** The destination's device owes the driver the end of a frame. */
  readonly frameInProgress: boolean;
  /** Slots at and after headAtPause that stay done. */
  readonly carried: number;
  /** Slots that were read as done and were turned back into posted ones. */
  readonly turnedBack: number;
}

const STATUS_EOP = 0x2;
const posted = new Uint32Array(4);

/*
 * Done or not. A posted descriptor is not told by its DD bit: ixgbevf reuses the slot without clearing the old status,
 * only the length of the next one (ixgbevf_alloc_rx_buffers). It is told by its last word, which holds the length, being
 * unchanged since it was posted. That word decides because the device writes it last and the copy reads it first: if it
 * is new, the whole write-back had happened, and what was read later is new too; if it is old, the rest is of no use
 * whichever it is, be it old, new or some of each. A write-back that leaves it as posted would have a length of 0 or one
 * that the driver itself wrote there. Then the frame is taken for one that did not come, which a network may always do.
 */
function isDone(ring: RingToCut, postings: Postings, slot: number): boolean {
  if (!postings.postedWords(ring.queue, slot, posted)) return true;
  return ring.words[slot * 4 + 3] !== posted[3];
}

/**
 * Finds the longest prefix of whole frames in a ring, and turns everything after it back into posted descriptors.
 * Legal for every order of copying: with `cut-rings`' own order there is no hole to mend, only the half frame.
 */
export function cutRing(ring: RingToCut, postings: Postings): Cut {
  const length = ring.words.length / 4;
  const next = (slot: number): number => (slot + 1 === length ? 0 : slot + 1);

  let head = ring.headAtPause;
  let carried = 0;
  let sinceFrameEnd = 0;
  for (let slot = head; slot !== ring.tail && isDone(ring, postings, slot); slot = next(slot)) {
    sinceFrameEnd++;
    if (((ring.words[slot * 4 + 2] ?? 0) & STATUS_EOP) !== 0) {
      head = next(slot);
      carried += sinceFrameEnd;
      sinceFrameEnd = 0;
    }
  }

  let turnedBack = 0;
  for (let slot = head; slot !== ring.tail; slot = next(slot)) {
    if (isDone(ring, postings, slot)) turnedBack++;
    if (postings.postedWords(ring.queue, slot, posted)) ring.words.set(posted, slot * 4);
  }
  return { head, frameInProgress: ring.frameInProgressAtPause && carried === 0, carried, turnedBack };
}
