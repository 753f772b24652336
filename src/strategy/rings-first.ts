// `rings-first`: the clean way of the mail, mended. Rings in their earliest state, then every buffer behind them.
import type { Strategy } from "./strategy.ts";

/*
 * Why this is safe with the device running. The device writes a buffer before its descriptor (R1). A ring that is read
 * first therefore shows, at most, frames whose buffers were whole before it was read; all buffers are read afterwards,
 * so each done descriptor finds its frame. A buffer that is newer than the ring belongs to a descriptor that the image
 * still shows as posted: nobody looks at it, and the destination's device writes over it.
 *
 * What the mail leaves open, and what is done here:
 *  - A ring is not one atomic read. It is read against the device's direction, upper half of each descriptor first, so
 *    that an earlier descriptor is never older than a later one, and is cut at the first one not done.
 *  - The cut may fall inside a frame. It is moved back to the last end of packet; descriptors after it become posted
 *    again, with the addresses the write-back destroyed, which only a shadow of the postings still knows.
 *  - A buffer filled and given up before the pause is no longer mapped, yet stale: released pages are copied as well.
 *  - The head register runs ahead of the copied ring; the head is taken from the cut.
 *  - Registers are read at the pause: an interrupt that the source's device raises later masks itself (EIAM) there, and
 *    no CPU that could unmask it moves along.
 *  - Transmit has nothing to wait for once the CPUs stand still: it stops at a frame boundary, so no frame goes out twice.
 */
export const ringsFirst: Strategy = {
  name: "rings-first",
  sentence:
    "Copies the descriptor rings first, then every mapped or released buffer, while the device goes on receiving.",
  source:
    "A. Duyck, 29 Oct 2015 (R6): rings first, then all mapped Rx buffers, with a tracker such as an emulated IOMMU",
  expectedVerdict: "safe",
  needs: ["tracker"],
  cooperation: "none",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty", "released"],
  skipsMappedInPreCopy: true,
  switchover: [
    { kind: "pause-vcpus" },
    { kind: "stop-transmit" },
    { kind: "save-device" },
    { kind: "cut-rings" },
    { kind: "copy", pages: ["rings", "mapped", "released", "cpu-dirty"] },
  ],
  resume: "head-from-cut",
};
