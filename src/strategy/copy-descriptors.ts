// `copy-descriptors`: the driver works on copies of its descriptors, in memory that no device writes. A specimen.
import { blind } from "./blind.ts";
import type { Strategy } from "./strategy.ts";

/*
 * Nobody has built it, so this is our reading of it. When the ring shows a descriptor done, the driver dirties
 * its buffer, then copies the descriptor to a ring of its own, then takes the buffer of what that copy shows done. The
 * copy is written by the CPU only and after the buffer's page was dirtied, so an image of all dirty pages never has the
 * one without the other: what was copied before the pause arrives whole.
 *
 * What it relies on is that nobody looks at the device's ring on the destination. But to learn of the next frame the
 * driver must, and that ring travels like any memory: its pages are dirty for postings, so descriptors come along that
 * were done and not yet copied, without their buffers (`read-ahead`); it may as well come along older than the saved
 * head (`head-ahead`). Copying moves the window, it does not close it.
 */
export const copyDescriptors: Strategy = {
  ...blind,
  name: "copy-descriptors",
  sentence:
    "The driver copies each done descriptor to memory of its own, its buffer dirtied before, and works on the copy.",
  source: "An answer to R3 of A. Duyck, 29 Oct 2015: ring pages are always dirty, for driver and device share them",
  expectedVerdict: "unsafe",
  needs: ["cooperative-driver"],
  cooperation: "copy-descriptors",
  machines: ["model"],
};
