// Fuzzes the readers of QEMU's migration: `node test/fuzz/qemu.ts [--inputs 100000] [--seed N] [--target NAME] [--first INPUT]`.
import { runCampaign } from "./campaign.ts";
import { qemuMemory, qemuTargetNames, qemuTargets } from "./qemu-consumers.ts";

await runCampaign({
  script: import.meta.url,
  targetNames: qemuTargetNames,
  targets: (seed) => Promise.resolve(qemuTargets(seed)),
  memory: qemuMemory,
});
