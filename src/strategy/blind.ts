// `blind`: migrate as if the card were not there. A specimen: it loses what the device wrote.
import type { Strategy } from "./strategy.ts";

export const blind: Strategy = {
  name: "blind",
  sentence: "Copies what the CPU dirtied and lets the device write on; nobody tells it about DMA.",
  source: "Pass-through without a dirty log: cloud-hypervisor #2505; the situation the mail of 29 Oct 2015 starts from",
  expectedVerdict: "unsafe",
  needs: [],
  cooperation: "none",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty"],
  skipsMappedInPreCopy: false,
  switchover: [{ kind: "pause-vcpus" }, { kind: "copy", pages: ["cpu-dirty"] }, { kind: "save-device" }],
  resume: "as-saved",
};
