// `quiesce`: stop the device before the CPUs, so that nothing moves any more when the last pages are copied.
import type { Strategy } from "./strategy.ts";

export const quiesce: Strategy = {
  name: "quiesce",
  sentence: "Stops and drains the device first, then the CPUs, then copies what the device could have written.",
  source: "Intel ice (E810) migration order; cloud-hypervisor #7743",
  expectedVerdict: "safe",
  needs: ["tracker"],
  cooperation: "none",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty", "released"],
  skipsMappedInPreCopy: true,
  switchover: [
    { kind: "stop-device" },
    { kind: "pause-vcpus" },
    { kind: "save-device" },
    { kind: "copy", pages: ["rings", "mapped", "released", "cpu-dirty"] },
  ],
  resume: "as-saved",
};
