// Fuzzes a whole destination and bounds its memory: `node test/fuzz/destination.ts [--inputs 100000] [--seed N] [--first INPUT]`.
import { runCampaign } from "./campaign.ts";
import { destinationMemory, destinationTargets } from "./destination-consumer.ts";

await runCampaign({
  script: import.meta.url,
  targetNames: ["destination"],
  targets: destinationTargets,
  memory: destinationMemory,
});
