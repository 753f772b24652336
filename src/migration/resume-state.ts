// The VF state that the destination gets: the registers as saved, with the receive heads that the strategy wants.
import { unreachable } from "../base/assert.ts";
import type { VfState } from "../nic/state.ts";
import type { DeviceResume } from "../strategy/strategy.ts";
import type { QueueCut } from "./events.ts";

export function resumeState(saved: VfState, resume: DeviceResume, cuts: readonly QueueCut[]): VfState {
  switch (resume) {
    case "as-saved":
    case "start-over":
    case "head-zero":
      return saved;
    case "head-from-cut":
      return withHeads(saved, cuts);
    default:
      return unreachable(resume);
  }
}

function withHeads(saved: VfState, cuts: readonly QueueCut[]): VfState {
  const cutOf = (index: number): QueueCut | undefined => cuts.find((cut) => cut.queue === index);
  const heads = (saved.registers["VFRDH"] ?? []).map((head, index) => cutOf(index)?.head ?? head);
  const queues = saved.receive.queues.map((queue, index) => ({
    ...queue,
    frameInProgress: cutOf(index)?.frameInProgress ?? queue.frameInProgress,
  }));
  return { ...saved, registers: { ...saved.registers, VFRDH: heads }, receive: { ...saved.receive, queues } };
}
