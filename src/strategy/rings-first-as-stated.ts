// `rings-first-as-stated`: the clean way of the mail to the letter, with nothing of what it leaves open. A specimen.
import type { Strategy } from "./strategy.ts";

/*
 * The mail asks for the descriptor rings first and then all currently mapped buffers, and says no more. So the rings go
 * as pages do, the buffers are those mapped now, and the device's state is read when everything else has been, as a
 * hypervisor does with any device. What is missing, and what `rings-first` does about it: a ring is not one atomic read
 * (`ring-hole`, `half-frame`), the head that is read last is ahead of the ring (`head-ahead`), and a buffer that was
 * filled and given back before the pause is not mapped any more (`released-since`).
 */
export const ringsFirstAsStated: Strategy = {
  name: "rings-first-as-stated",
  sentence: "Copies the descriptor rings as plain pages first, then every mapped buffer, then saves the device.",
  source: "A. Duyck, 29 Oct 2015 (R6), to the letter",
  needs: ["tracker"],
  cooperation: "none",
  expectedVerdict: "unsafe",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty"],
  skipsMappedInPreCopy: false,
  switchover: [
    { kind: "pause-vcpus" },
    { kind: "copy", pages: ["rings"] },
    { kind: "copy", pages: ["mapped", "cpu-dirty"] },
    { kind: "save-device" },
  ],
  resume: "as-saved",
};
