// `dummy-write-before`: the driver dirties each buffer before it looks at the descriptor. A specimen: it destroys frames.
import { blind } from "./blind.ts";
import type { Strategy } from "./strategy.ts";

/*
 * What it is after: no descriptor is ever seen done whose buffer is not in the dirty log already, so there is no moment
 * between the check and the write at which the CPUs could be paused. It relies on the device leaving the buffer alone
 * between the read and the write-back of the dummy; but until the descriptor says done, the buffer is the device's, and
 * what arrives in between is overwritten with what was there before, migration or no migration (`dummy-write-race`).
 * Nor does it say that the frame was in the buffer when the page was dirtied: it may arrive behind the dummy write and
 * before the look, and the page be fetched, cleared and sent in between.
 *
 * Open as in every strategy that leaves the rings to the CPU's log: what `dummy-write-after` says.
 */
export const dummyWriteBefore: Strategy = {
  ...blind,
  name: "dummy-write-before",
  sentence:
    "The driver reads a word of each buffer and writes it back, before it looks whether the descriptor is done.",
  source: "A. Duyck, 29 Oct 2015 (R2): what a dummy write must not do",
  expectedVerdict: "unsafe",
  needs: ["cooperative-driver"],
  cooperation: "dummy-write-before",
  machines: ["model"],
};
