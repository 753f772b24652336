// The two strategies of the common model: rings before buffers, and the wrong way round.
import type { Command, Strategy } from "../../src/strategy/strategy.ts";

const rings: Command = { kind: "copy", pages: ["rings"] };
const buffers: Command = { kind: "copy", pages: ["mapped"] };

export type OrderName = "rings first" | "buffers first";

const switchovers: Readonly<Record<OrderName, readonly Command[]>> = {
  "rings first": [rings, buffers],
  "buffers first": [buffers, rings],
};

/** Plain copies of pages, whose order inside each copy is anybody's, while the device goes on. */
export function strategyOf(order: OrderName): Strategy {
  return {
    name: order,
    sentence: "Copies the pages of rings and buffers, one class after the other, while the device goes on.",
    source: "the common model of the benchmark",
    expectedVerdict: order === "rings first" ? "safe" : "unsafe",
    needs: ["tracker"],
    cooperation: "none",
    machines: ["model"],
    preCopy: [],
    skipsMappedInPreCopy: false,
    switchover: switchovers[order],
    resume: "as-saved",
  };
}
