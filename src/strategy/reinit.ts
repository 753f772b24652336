// `reinit`: do not carry the rings at all; the driver drops them and starts over on the destination.
import type { Strategy } from "./strategy.ts";

/*
 * The stock driver needs no change: it starts over when the PF tells it to. Until it does, it may still poll its rings
 * (an interrupt was pending, or NAPI was in the middle of a poll), and would take done descriptors for frames. So the
 * rings that travel show no done descriptor. Buffers are copied although their descriptors are dropped: a frame that
 * the driver took out of a ring slot lies in a page that stays mapped until the slot is posted again, often with its
 * other half still posted (hazard `shared-page`).
 */
export const reinit: Strategy = {
  name: "reinit",
  sentence: "Drops the rings; on the destination the PF resets the VF and the stock driver starts over.",
  source: "A. Duyck, 29 Oct 2015 (R5): dropping the rings may be faster and moves less state than shuffling them",
  expectedVerdict: "safe",
  needs: ["tracker", "driver-reset"],
  cooperation: "none",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty", "released"],
  skipsMappedInPreCopy: true,
  switchover: [
    { kind: "pause-vcpus" },
    { kind: "stop-transmit" },
    { kind: "save-device" },
    { kind: "drop-rings" },
    { kind: "copy", pages: ["rings", "mapped", "released", "cpu-dirty"] },
  ],
  resume: "start-over",
};
