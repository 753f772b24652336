// The audit's names for what can be wrong with an image: one sentence each, and the point of a legal cut that is broken.

/**
 * A legal cut, in eight points:
 *
 * 1. every byte the CPU may look at equals the source's at P: all memory but the buffers of posted, not-done descriptors;
 * 2. the ring shows exactly the write-backs of a prefix of the device's writes;
 * 3. every done descriptor's buffer holds its frame, whole;
 * 4. the VF resumes at the first not-done descriptor of the image, with the registers it had;
 * 5. the addresses of all not-done descriptors are intact;
 * 6. transmit: nothing that the driver waits for is lost, and the context slots are state;
 * 7. no queue stalls for want of an interrupt;
 * 8. frames after the cut are counted, and none is delivered twice.
 */
export const points = {
  1: "every byte the CPU may look at equals the source's at the pause",
  2: "the rings show exactly the write-backs up to the cut",
  3: "every done descriptor's buffer holds its frame, whole",
  4: "the VF resumes at the first not-done descriptor, with the registers it had",
  5: "the addresses of all not-done descriptors are intact",
  6: "nothing that the driver waits for in transmit is lost",
  7: "no queue stalls for want of an interrupt",
  8: "frames after the cut are counted, and none is delivered twice",
} as const;
export type Point = keyof typeof points;

interface HazardMeaning {
  readonly point: Point;
  readonly sentence: string;
}

export const hazards = {
  "stale-cpu-page": {
    point: 1,
    sentence: "bytes that no received frame accounts for differ from the source's at the pause",
  },
  "lost-clear": {
    point: 1,
    sentence: "bytes differ after an earlier attempt failed: dirty bits it had fetched were not put back",
  },
  "invisible-dma": {
    point: 1,
    sentence: "the page of a frame that the guest has taken was not sent again after the device filled it",
  },
  "released-since": {
    point: 1,
    sentence: "the page of a frame that the guest has taken left the ring before its last copy was due",
  },
  "shared-page": {
    point: 1,
    sentence: "the stack's part of a page whose other part is posted to the device is not the source's",
  },
  "ring-hole": { point: 2, sentence: "descriptors are done behind one that is not" },
  "torn-descriptor": { point: 2, sentence: "half of a descriptor is from before its write-back and half from after" },
  "half-frame": { point: 2, sentence: "the cut lies between the descriptors of one frame" },
  "stale-descriptor": {
    point: 2,
    sentence: "a descriptor shows neither what was posted nor what the device wrote back",
  },
  "done-in-dropped-ring": { point: 2, sentence: "a ring that was to be dropped shows a done descriptor" },
  "read-ahead": { point: 3, sentence: "a descriptor says done and its buffer does not hold the frame" },
  "check-to-write-window": {
    point: 3,
    sentence: "the vCPUs paused after the driver saw the descriptor done and before its dummy write",
  },
  "dummy-write-race": {
    point: 3,
    sentence: "the CPU wrote into a buffer that the device owned, and the frame in it is destroyed",
  },
  "relaxed-ordering": {
    point: 3,
    sentence: "the write-back overtook its buffer, and the buffer does not hold the frame",
  },
  "late-write": { point: 3, sentence: "a write landed after the device was declared stopped, and the image lacks it" },
  "head-ahead": {
    point: 4,
    sentence: "the receive head is past the first descriptor that is not done: the queue hangs",
  },
  "head-behind": { point: 4, sentence: "the receive head is before the first descriptor that is not done" },
  "phantom-frame": { point: 4, sentence: "the VF believes to be inside a frame of which the ring shows nothing" },
  "register-mismatch": { point: 4, sentence: "a register the driver relies on differs from the source's at the pause" },
  "device-state-mismatch": {
    point: 4,
    sentence: "the VF's place on the bus, its MSI-X table or what its PF has set up for it is not the source's",
  },
  "lost-descriptor-address": { point: 5, sentence: "a descriptor that is not done has lost its buffer address" },
  "lost-completion": { point: 6, sentence: "a transmit descriptor was fetched and its completion is lost" },
  "repeated-completion": {
    point: 6,
    sentence: "a completion that has arrived is owed again: it will hit a descriptor in use",
  },
  "tx-head-ahead": {
    point: 6,
    sentence: "the transmit head is past what the source's device sent: frames are lost unsent",
  },
  "tx-head-behind": {
    point: 6,
    sentence: "the transmit head is before descriptors that are completed: they are fetched again",
  },
  "tx-descriptor-overwritten": {
    point: 6,
    sentence: "a transmit descriptor that is yet to be fetched is not as the driver left it",
  },
  "half-frame-sent": { point: 6, sentence: "transmit resumes inside a frame whose beginning is gone" },
  "context-slot": {
    point: 6,
    sentence: "a transmit context slot differs from what the descriptors before the head set",
  },
  "stale-head-writeback": {
    point: 6,
    sentence: "head write-back is armed for, or went to, an address the driver did not give",
  },
  "lost-interrupt": { point: 7, sentence: "descriptors are done and no interrupt is to come" },
  "duplicate-frame": { point: 8, sentence: "more frames were delivered than came" },
  "frame-accounting": { point: 8, sentence: "frames are missing from the count" },
} as const satisfies Record<string, HazardMeaning>;
export type Hazard = keyof typeof hazards;
