// `dummy-write-after`: the driver dirties the buffer of each done descriptor before it takes it. A specimen: rings run ahead.
import { blind } from "./blind.ts";
import type { Strategy } from "./strategy.ts";

/*
 * What it does for: every frame that the driver has taken. Its page is in the dirty log from the dummy write on, when the
 * frame was whole, and so are all that the driver wrote itself.
 *
 * What it leaves open is every frame that the driver has not taken when the CPUs pause:
 *  - The ring's page is dirty for a posting or a cleared length and comes along, with up to a page of descriptors that
 *    the device wrote back since; their buffers do not (`read-ahead`). The driver's dummy write on the destination
 *    makes it no better: it dirties what is stale.
 *  - The first of them may be one that the driver has seen done already (`check-to-write-window`). The RFC's author
 *    grants it: before the dummy write the content may not be what was received (Lan Tianyu, 1 Dec 2015).
 *  - Or the page is not dirty, or the device is faster than the copy, and the head in the saved registers is past
 *    descriptors that the image does not show done (`head-ahead`).
 *  - Transmit's write-backs are DMA like any other, and nobody dirties those (`lost-completion`).
 */
export const dummyWriteAfter: Strategy = {
  ...blind,
  name: "dummy-write-after",
  sentence: "The driver reads a word of each buffer and writes it back, once the descriptor is done.",
  source: "Lan Tianyu, RFC of Oct 2015 (track DMA dirty pages); A. Duyck, 29 Oct 2015 (R2, R3)",
  expectedVerdict: "unsafe",
  needs: ["cooperative-driver"],
  cooperation: "dummy-write-after",
  machines: ["model"],
};
