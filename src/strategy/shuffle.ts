// `shuffle`: the RFC's own way. The driver turns its rings on the destination until the heads are 0. A specimen.
import { blind } from "./blind.ts";
import type { Strategy } from "./strategy.ts";

/*
 * Heads of an 82599 VF cannot be written: after its reset they are 0. So the driver, told on the destination, turns the
 * contents of each ring and its own bookkeeping until the descriptor that the head pointed at is the first, and gives
 * the rings to the device again with everything in them: done frames that it has not taken yet stay done.
 *
 * Before that it is `dummy-write-after`, and nothing about turning a ring mends what is wrong with the ring that came:
 * the head that it turns by is that of the saved registers, ahead of the image as often as there (`head-ahead`), and done
 * descriptors come without their buffers (`read-ahead`).
 *
 * What it adds: the reset forgets what the VF kept beside its registers. A frame of several descriptors whose end was
 * yet to come never ends, and the next one is taken for its end (`half-frame`). Transmit frames that refer to a context
 * descriptor before the head are not sent; ixgbevf writes one for each frame, which leaves the frame whose context the
 * device had fetched. Completions that did not come along are given up by the driver, which is better than waiting.
 */
export const shuffle: Strategy = {
  ...blind,
  name: "shuffle",
  sentence:
    "The driver dirties buffers as in dummy-write-after; on the destination it turns its rings until the heads are 0.",
  source: "Lan Tianyu, RFC of Oct 2015 (shift the rings so that the original head comes first); R5 argues against it",
  expectedVerdict: "unsafe",
  needs: ["cooperative-driver", "driver-reset"],
  cooperation: "shuffle",
  machines: ["model"],
  resume: "head-zero",
};
