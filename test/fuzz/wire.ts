// Fuzzes the wire: `node test/fuzz/wire.ts [--inputs 100000] [--seed N] [--target NAME] [--first INPUT]`.
import { runCampaign } from "./campaign.ts";
import { wireHeldBytesMax, wireTargetNames, wireTargets } from "./wire-consumers.ts";

await runCampaign({
  script: import.meta.url,
  targetNames: wireTargetNames,
  targets: wireTargets,
  heldBytesMax: wireHeldBytesMax,
});
