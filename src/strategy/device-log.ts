// `device-log`: hardware that keeps a dirty log of its own, as VFIO migration v2 asks for.
import type { Strategy } from "./strategy.ts";

export const deviceLog: Strategy = {
  name: "device-log",
  sentence: "Sends what the CPU and the device logged as written; stops the device, then copies what is left.",
  source: "VFIO migration v2 with DMA logging (include/uapi/linux/vfio.h): STOP_COPY",
  expectedVerdict: "safe",
  needs: ["device-log"],
  cooperation: "none",
  machines: ["linux", "qemu", "model"],
  preCopy: ["cpu-dirty", "device-dirty"],
  skipsMappedInPreCopy: false,
  switchover: [
    { kind: "stop-device" },
    { kind: "pause-vcpus" },
    { kind: "save-device" },
    { kind: "copy", pages: ["cpu-dirty", "device-dirty"] },
  ],
  resume: "as-saved",
};
